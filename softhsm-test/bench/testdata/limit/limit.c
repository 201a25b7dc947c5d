/*
 * The limit: bare C_SignInit and C_Sign in a loop, one thread for each session,
 * and nothing else.
 *
 *   limit MODULE TOKEN-LABEL PIN-FILE SESSIONS
 *
 * For each line "THREADS MILLISECONDS" on standard input it signs for that long
 * and prints "SIGNATURES NANOSECONDS". It ends with its input.
 */
#define _GNU_SOURCE
#define CRYPTOKI_COMPAT
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <p11-kit/pkcs11.h>

#define MOST 256

static CK_FUNCTION_LIST *p11;
static CK_OBJECT_HANDLE key;
static CK_SESSION_HANDLE sessions[MOST];
static atomic_bool over;
static atomic_ulong signatures;

static void die(const char *what, unsigned long rv)
{
	fprintf(stderr, "limit: %s: 0x%lx\n", what, rv);
	exit(1);
}

static void must(const char *what, CK_RV rv)
{
	if (rv != CKR_OK)
		die(what, rv);
}

/* The DER of a DigestInfo up to the digest (RFC 8017, section 9.2, note 1). */
static const unsigned char prefix[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
				       0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};

static void *loop(void *session)
{
	CK_MECHANISM mechanism = {CKM_RSA_PKCS, NULL, 0};
	unsigned char input[sizeof prefix + 32], signature[512];
	unsigned long made = 0;

	memcpy(input, prefix, sizeof prefix);
	memset(input + sizeof prefix, 0x5a, 32);
	memcpy(input + sizeof prefix, session, sizeof(CK_SESSION_HANDLE));
	while (!atomic_load_explicit(&over, memory_order_relaxed)) {
		CK_ULONG size = sizeof signature;
		memcpy(input + sizeof prefix + 16, &made, sizeof made); /* another digest each time */
		must("C_SignInit", p11->C_SignInit(*(CK_SESSION_HANDLE *)session, &mechanism, key));
		must("C_Sign", p11->C_Sign(*(CK_SESSION_HANDLE *)session, input, sizeof input, signature, &size));
		made++;
	}
	atomic_fetch_add(&signatures, made);
	return NULL;
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void load(const char *module)
{
	CK_C_INITIALIZE_ARGS threads = {.flags = CKF_OS_LOCKING_OK};
	CK_RV (*list)(CK_FUNCTION_LIST **);
	void *library = dlopen(module, RTLD_NOW | RTLD_LOCAL);

	if (!library || !(*(void **)&list = dlsym(library, "C_GetFunctionList")))
		die(dlerror(), 0);
	must("C_GetFunctionList", list(&p11));
	must("C_Initialize", p11->C_Initialize(&threads));
}

static CK_SLOT_ID find_token(const char *label)
{
	CK_SLOT_ID slots[64];
	CK_ULONG count = 64;

	must("C_GetSlotList", p11->C_GetSlotList(CK_TRUE, slots, &count));
	for (CK_ULONG i = 0; i < count; i++) {
		CK_TOKEN_INFO info;
		if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK && memcmp(info.label, label, strlen(label)) == 0)
			return slots[i];
	}
	die("no such token", 0);
	return 0;
}

static void login(CK_SESSION_HANDLE session, const char *file)
{
	char pin[256];
	FILE *in = fopen(file, "r");

	if (!in || !fgets(pin, sizeof pin, in))
		die("reading the PIN file", 0);
	fclose(in);
	pin[strcspn(pin, "\n")] = 0;
	must("C_Login", p11->C_Login(session, CKU_USER, (CK_UTF8CHAR *)pin, strlen(pin)));
}

static void find_key(CK_SESSION_HANDLE session)
{
	CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
	CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}};
	CK_ULONG count = 0;

	must("C_FindObjectsInit", p11->C_FindObjectsInit(session, template, 1));
	must("C_FindObjects", p11->C_FindObjects(session, &key, 1, &count));
	must("C_FindObjectsFinal", p11->C_FindObjectsFinal(session));
	if (count != 1)
		die("no private key", 0);
}

static void run(unsigned threads, unsigned milliseconds)
{
	pthread_t all[MOST];
	struct timespec span = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
	uint64_t began = now();

	atomic_store(&over, false);
	atomic_store(&signatures, 0);
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&all[i], NULL, loop, &sessions[i]) != 0)
			die("pthread_create", i);
	nanosleep(&span, NULL);
	atomic_store(&over, true);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(all[i], NULL);
	printf("%lu %lu\n", atomic_load(&signatures), (unsigned long)(now() - began));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	unsigned threads, milliseconds, count;
	CK_SLOT_ID slot;

	if (argc != 5 || (count = (unsigned)atoi(argv[4])) < 1 || count > MOST)
		die("usage: limit MODULE TOKEN-LABEL PIN-FILE SESSIONS", 0);
	load(argv[1]);
	slot = find_token(argv[2]);
	for (unsigned i = 0; i < count; i++)
		must("C_OpenSession", p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &sessions[i]));
	login(sessions[0], argv[3]);
	find_key(sessions[0]);
	while (scanf("%u %u", &threads, &milliseconds) == 2) {
		if (threads < 1 || threads > count)
			die("threads", threads);
		run(threads, milliseconds);
	}
	return 0;
}
