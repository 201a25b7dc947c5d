/* What libxml2 needs to read a document and write its canonical form: the
 * yardstick of this package's speed. Usage: c14n FILE COUNT. Prints the
 * nanoseconds of processor time that one parse and one canonicalization take
 * together, the least of five runs of COUNT. No digest is taken, so that libxml2 is not judged by
 * somebody's SHA-256. */
#include <libxml/c14n.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	static char source[4 << 20];
	FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
	if (!file)
		return 2;
	int size = fread(source, 1, sizeof source, file), count = atoi(argv[2]);
	double least = 0;

	for (int run = 0; run < 5; run++) {
		double start = now();
		for (int i = 0; i < count; i++) {
			xmlChar *canonical = NULL;
			xmlDocPtr doc = xmlReadMemory(source, size, "", NULL, XML_PARSE_NONET | XML_PARSE_NOBLANKS);
			if (!doc || xmlC14NDocDumpMemory(doc, NULL, XML_C14N_1_1, NULL, 0, &canonical) < 0)
				return 1;
			xmlFree(canonical);
			xmlFreeDoc(doc);
		}
		double took = (now() - start) / count;
		if (run == 0 || took < least)
			least = took;
	}
	printf("%.0f\n", least);
	return 0;
}
