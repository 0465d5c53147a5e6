/* base/json.h: strict reading of JSON objects from outside, on top of jansson.
 * Thread: any. Ownership is jansson's: json_t is reference counted; AUTO_JSON drops a reference on return. */
#pragma once
#include "base/errors.h"
#include "base/strbuf.h"
#include <jansson.h>

/* jansson looks at a counter with a plain read before it changes it atomically, and gives memory back without having
 * acquired it: a data race where threads share a value, as run threads do with the tools of a worker. */
static inline json_t *json_ref(json_t *j)
{
	if (j != NULL && __atomic_load_n(&j->refcount, __ATOMIC_RELAXED) != (size_t)-1)
		__atomic_add_fetch(&j->refcount, 1, __ATOMIC_RELAXED);
	return j;
}

static inline void json_unref(json_t *j)
{
	if (j != NULL && __atomic_load_n(&j->refcount, __ATOMIC_RELAXED) != (size_t)-1 &&
	    __atomic_sub_fetch(&j->refcount, 1, __ATOMIC_ACQ_REL) == 0)
		json_delete(j);
}
#define json_incref json_ref
#define json_decref json_unref

#define AUTO_JSON __attribute__((cleanup(json_drop), unused)) json_t *
void json_drop(json_t **j);

/* Parses one JSON value of at most 64 levels and 100000 brackets and commas; duplicate keys: last wins. ERR_INVALID
 * with the place in `why`. */
int json_parse(const char *text, size_t len, json_t **ret, struct why *why) MUST_USE;
/* The same for what people and programs ask for: a field that is given twice is refused by name, for nobody can know
 * which one the other side, or somebody between, has looked at. */
int json_parse_strict(const char *text, size_t len, json_t **ret, struct why *why) MUST_USE;
/* More than those, judged by the brackets and commas outside of strings: whoever calls jansson directly asks first, it
 * recurses and threads have small stacks, and a short text can take much memory. */
bool json_is_bomb(const char *text, size_t len);
/* Compact UTF-8 text, malloc'ed. */
char *json_text(const json_t *j);
/* ERR_INVALID with "Unrecognized key(s) …" unless every key of `obj` is in the NULL-terminated list. `where` names
 * the object ("" for the body). */
int json_only_keys(const json_t *obj, const char *const *keys, const char *where, struct why *why) MUST_USE;

/* A text of an object, borrowed; "" if it has none of that name (or `obj` is NULL). For what was checked, or where
 * another type is as good as nothing. */
const char *json_word(const json_t *obj, const char *key);
/* Optional members. Absent leaves *ret untouched and gives OK; a wrong type (null included) is ERR_INVALID
 * with the member named in `why`. Strings are borrowed from obj. */
int json_get_string(const json_t *obj, const char *key, const char **ret, struct why *why) MUST_USE;
int json_get_bool(const json_t *obj, const char *key, bool *ret, struct why *why) MUST_USE;
int json_get_array(const json_t *obj, const char *key, json_t **ret, struct why *why) MUST_USE;
/* Required string member, not empty. */
int json_need_string(const json_t *obj, const char *key, const char **ret, struct why *why) MUST_USE;

/* Sets a string member unless v is NULL. */
void json_put(json_t *obj, const char *key, const char *v);
void json_put_int(json_t *obj, const char *key, int64_t v);
void json_put_bool(json_t *obj, const char *key, bool v);
/* Takes the reference of v. */
void json_put_new(json_t *obj, const char *key, json_t *v);
/* json_string for bytes that may not be UTF-8: bad bytes become U+FFFD. */
json_t *json_lossy(const char *s, size_t len);
/* Adds what stands between the quotes of a JSON string, and with the quotes. `s` is UTF-8. */
void json_add_escaped(struct strbuf *b, const char *s);
void json_add_string(struct strbuf *b, const char *s);
