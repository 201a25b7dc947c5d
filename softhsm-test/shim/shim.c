/*
 * A PKCS#11 module that stands in front of another one, and asks a test before
 * each call what shall become of it. The test knows everything, the shim nothing.
 *
 * Beside the library PATH lie PATH.module, a link to the real module, and
 * PATH.control, the test's socket. A copy under another path is another module.
 *
 * No call is made in the real module while it is initialised or finalised, or
 * while its sessions are taken away: that would be a crash, not a fault. What the
 * FUNCTIONS below lack is handed through unasked.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <p11-kit/pkcs11.h>

/* What goes to the test, in this machine's byte order; see wire.go. */
struct question {
	char function[32];
	uint64_t stage;   /* before the call, after it where the test asked for that, or sessions were taken away */
	uint64_t session; /* the one used, or opened */
	uint64_t rv;      /* after: what the real module returned */
	uint64_t epoch;   /* not before: grows whenever sessions are taken away */
	uint64_t length;  /* C_Sign: the test shall know who only asks for the length */
	uint64_t running; /* other calls that have not returned */
};

struct answer {
	uint64_t actions;
	uint64_t rv;      /* to return, with RETURN */
	uint64_t session; /* to log out with, with LOGOUT */
};

enum stage { BEFORE, AFTER, LOST };

enum action {
	DO = 1,       /* let the real module do the call */
	RETURN = 2,   /* whatever came of it, return rv */
	REPORT = 4,   /* ask again afterwards */
	CORRUPT = 8,  /* spoil the signature */
	ALONE = 16,   /* let no other call run meanwhile */
	LOSE = 32,    /* close all sessions, first */
	LOGOUT = 64,  /* log the user out, first */
};

static CK_FUNCTION_LIST *real;
static void *library;
static pthread_rwlock_t calls = PTHREAD_RWLOCK_INITIALIZER;
static uint64_t epoch; /* of calls */
static atomic_uint running;

/* The connections that nobody uses at the moment. */
static pthread_mutex_t idle = PTHREAD_MUTEX_INITIALIZER;
static int connections[32];
static size_t connected;

/* beside writes the path of the library, with a suffix. */
static bool beside(char *path, size_t size, const char *suffix)
{
	Dl_info info;
	if (!dladdr((void *)&running, &info))
		return false;
	return (size_t)snprintf(path, size, "%s%s", info.dli_fname, suffix) < size;
}

static int dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (!beside(address.sun_path, sizeof address.sun_path, ".control"))
		return -1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	close(fd);
	return -1;
}

static int borrow(void)
{
	int fd = -1;
	pthread_mutex_lock(&idle);
	if (connected > 0)
		fd = connections[--connected];
	pthread_mutex_unlock(&idle);
	return fd >= 0 ? fd : dial();
}

static void give_back(int fd)
{
	pthread_mutex_lock(&idle);
	if (connected < sizeof connections / sizeof *connections) {
		connections[connected++] = fd;
		fd = -1;
	}
	pthread_mutex_unlock(&idle);
	if (fd >= 0)
		close(fd);
}

static bool exchange(int fd, const struct question *question, struct answer *answer)
{
	ssize_t n;
	do
		n = send(fd, question, sizeof *question, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != sizeof *question)
		return false;
	do
		n = recv(fd, answer, sizeof *answer, MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	return n == sizeof *answer;
}

/* ask waits for the test's answer. A test that is over answers as a device that is away. */
static struct answer ask(const struct question *question)
{
	struct answer answer;
	int fd = borrow();
	if (fd >= 0 && exchange(fd, question, &answer)) {
		give_back(fd);
		return answer;
	}
	if (fd >= 0)
		close(fd);
	return (struct answer){ .actions = RETURN, .rv = CKR_DEVICE_ERROR };
}

/*
 * upset takes sessions or the login away, behind everybody's back. The test knows it
 * before the next call can notice.
 */
static void upset(const struct answer *answer)
{
	CK_SLOT_ID slots[16];
	CK_ULONG count = sizeof slots / sizeof *slots;

	pthread_rwlock_wrlock(&calls);
	if (answer->actions & LOGOUT)
		real->C_Logout(answer->session);
	if (answer->actions & LOSE && real->C_GetSlotList(CK_TRUE, slots, &count) == CKR_OK) {
		for (CK_ULONG i = 0; i < count; i++)
			real->C_CloseAllSessions(slots[i]);
		ask(&(struct question){ .stage = LOST, .epoch = ++epoch });
	}
	pthread_rwlock_unlock(&calls);
}

struct call {
	struct question question;
	struct answer answer;
};

/* begin asks; where it returns true the real module is to be called, and done. */
static bool begin(struct call *call, const char *function, CK_SESSION_HANDLE session, bool length)
{
	*call = (struct call){ .question = { .stage = BEFORE, .session = session, .length = length } };
	snprintf(call->question.function, sizeof call->question.function, "%s", function);
	call->question.running = atomic_fetch_add(&running, 1);
	call->answer = ask(&call->question);
	if (call->answer.actions & (LOSE | LOGOUT))
		upset(&call->answer);
	if (!(call->answer.actions & DO))
		return false;
	if (call->answer.actions & ALONE)
		pthread_rwlock_wrlock(&calls);
	else
		pthread_rwlock_rdlock(&calls);
	return true;
}

static void done(struct call *call, CK_RV rv)
{
	if (call->answer.actions & ALONE)
		epoch++;
	call->question.epoch = epoch;
	pthread_rwlock_unlock(&calls);
	call->question.rv = rv;
}

static CK_RV end(struct call *call, CK_SESSION_HANDLE session)
{
	if (call->answer.actions & REPORT) {
		call->question.stage = AFTER;
		call->question.session = session;
		call->answer = ask(&call->question);
	}
	atomic_fetch_sub(&running, 1);
	return call->answer.actions & RETURN ? call->answer.rv : call->question.rv;
}

/* Of each function: its name, the session it uses, its parameters, and its arguments. */
#define FUNCTIONS(F) \
	F(C_Initialize, 0, (void *init), (init)) \
	F(C_Finalize, 0, (void *reserved), (reserved)) \
	F(C_GetInfo, 0, (CK_INFO *info), (info)) \
	F(C_GetSlotList, 0, (CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count), (present, slots, count)) \
	F(C_GetSlotInfo, 0, (CK_SLOT_ID slot, CK_SLOT_INFO *info), (slot, info)) \
	F(C_GetTokenInfo, 0, (CK_SLOT_ID slot, CK_TOKEN_INFO *info), (slot, info)) \
	F(C_GetMechanismList, 0, (CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count), (slot, list, count)) \
	F(C_GetMechanismInfo, 0, (CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info), (slot, type, info)) \
	F(C_InitToken, 0, (CK_SLOT_ID slot, CK_UTF8CHAR *pin, CK_ULONG n, CK_UTF8CHAR *label), (slot, pin, n, label)) \
	F(C_InitPIN, s, (CK_SESSION_HANDLE s, CK_UTF8CHAR *pin, CK_ULONG n), (s, pin, n)) \
	F(C_SetPIN, s, (CK_SESSION_HANDLE s, CK_UTF8CHAR *old, CK_ULONG m, CK_UTF8CHAR *pin, CK_ULONG n), (s, old, m, pin, n)) \
	F(C_CloseSession, s, (CK_SESSION_HANDLE s), (s)) \
	F(C_CloseAllSessions, 0, (CK_SLOT_ID slot), (slot)) \
	F(C_GetSessionInfo, s, (CK_SESSION_HANDLE s, CK_SESSION_INFO *info), (s, info)) \
	F(C_Login, s, (CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG n), (s, user, pin, n)) \
	F(C_Logout, s, (CK_SESSION_HANDLE s), (s)) \
	F(C_CreateObject, s, (CK_SESSION_HANDLE s, CK_ATTRIBUTE *a, CK_ULONG n, CK_OBJECT_HANDLE *made), (s, a, n, made)) \
	F(C_DestroyObject, s, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object), (s, object)) \
	F(C_GetAttributeValue, s, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *a, CK_ULONG n), (s, object, a, n)) \
	F(C_SetAttributeValue, s, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *a, CK_ULONG n), (s, object, a, n)) \
	F(C_FindObjectsInit, s, (CK_SESSION_HANDLE s, CK_ATTRIBUTE *a, CK_ULONG n), (s, a, n)) \
	F(C_FindObjects, s, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE *found, CK_ULONG most, CK_ULONG *n), (s, found, most, n)) \
	F(C_FindObjectsFinal, s, (CK_SESSION_HANDLE s), (s)) \
	F(C_SignInit, s, (CK_SESSION_HANDLE s, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key), (s, mechanism, key)) \
	F(C_GenerateKeyPair, s, (CK_SESSION_HANDLE s, CK_MECHANISM *mechanism, CK_ATTRIBUTE *a, CK_ULONG m, \
		CK_ATTRIBUTE *b, CK_ULONG n, CK_OBJECT_HANDLE *public, CK_OBJECT_HANDLE *private), \
		(s, mechanism, a, m, b, n, public, private)) \
	F(C_GenerateRandom, s, (CK_SESSION_HANDLE s, CK_BYTE *random, CK_ULONG n), (s, random, n))

#define DEFINE(function, session, parameters, arguments) \
	static CK_RV asked_##function parameters \
	{ \
		struct call call; \
		if (begin(&call, #function, session, false)) \
			done(&call, real->function arguments); \
		return end(&call, session); \
	}

FUNCTIONS(DEFINE)

static CK_RV asked_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
	CK_SESSION_HANDLE *session)
{
	struct call call;
	if (begin(&call, "C_OpenSession", 0, false))
		done(&call, real->C_OpenSession(slot, flags, application, notify, session));
	return end(&call, call.answer.actions & DO && call.question.rv == CKR_OK ? *session : 0);
}

static CK_RV asked_C_Sign(CK_SESSION_HANDLE s, CK_BYTE *data, CK_ULONG size, CK_BYTE *signature, CK_ULONG *length)
{
	struct call call;
	if (begin(&call, "C_Sign", s, signature == NULL)) {
		done(&call, real->C_Sign(s, data, size, signature, length));
		if (call.answer.actions & CORRUPT && signature != NULL && call.question.rv == CKR_OK)
			signature[*length - 1] ^= 1;
	}
	return end(&call, s);
}

/* load finds the real module, in its own name space. */
static bool load(void)
{
	char path[4096];
	CK_C_GetFunctionList list;
	if (real != NULL)
		return true;
	if (!beside(path, sizeof path, ".module") || (library = dlopen(path, RTLD_NOW | RTLD_LOCAL)) == NULL)
		return false;
	*(void **)&list = dlsym(library, "C_GetFunctionList");
	return list != NULL && list(&real) == CKR_OK;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
	static CK_FUNCTION_LIST asked;
	if (!load())
		return CKR_GENERAL_ERROR;
	asked = *real;
#define ASSIGN(function, session, parameters, arguments) asked.function = asked_##function;
	FUNCTIONS(ASSIGN)
	asked.C_OpenSession = asked_C_OpenSession;
	asked.C_Sign = asked_C_Sign;
	asked.C_GetFunctionList = C_GetFunctionList;
	*list = &asked;
	return CKR_OK;
}

/* unload runs at dlclose. */
__attribute__((destructor)) static void unload(void)
{
	while (connected > 0)
		close(connections[--connected]);
	if (library != NULL)
		dlclose(library);
}
