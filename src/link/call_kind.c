#include "link/call_kind.h"
#include "base/macros.h"
#include <ctype.h>
#include <pthread.h>

#define KINDS_MAX 32
#define NAME_MAX_LEN 32

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char names[KINDS_MAX][NAME_MAX_LEN]; /* by number; constant after `once` */

/* The list is the one in proto/worker.proto: its names in small letters. */
static void read_names(void)
{
	const ProtobufCEnumDescriptor *d = &bullpen__worker__v1__call_kind__descriptor;

	for (unsigned i = 0; i < d->n_values; i++) {
		const ProtobufCEnumValue *v = &d->values[i];

		ENSURE(v->value >= 0 && v->value < KINDS_MAX);
		for (size_t k = 0; v->name[k] != '\0' && k < NAME_MAX_LEN - 1; k++)
			names[v->value][k] = (char)tolower((unsigned char)v->name[k]);
	}
}

const char *call_kind_name(call_kind kind)
{
	pthread_once(&once, read_names);
	if ((int)kind <= 0 || (int)kind >= KINDS_MAX || names[kind][0] == '\0')
		return "unknown";
	return names[kind];
}
