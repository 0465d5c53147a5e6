/* artifacts/s3_priv.h: what the files of the storage in S3 share. For this folder only.
 *
 * The content KEY is the object PREFIX/KK/KEY, KK being the first two characters of KEY, as the folder has it. */
#pragma once
#include "base/json.h"
#include "base/strbuf.h"
#include "net/http_client.h"
#include "server/artifacts/s3_xml.h"
#include "server/artifacts/sigv4.h"
#include "server/artifacts/storage.h"
#include <pthread.h>
#include <stdatomic.h>

#define S3_MAGIC 0x61727433u
/* S3 takes parts of 5 MiB and more, 10,000 of them. All but the last are of this size. */
#define S3_PART_BYTES ((size_t)8 * 1024 * 1024)
#define S3_PARTS_MAX 10000
/* Announced a moment ago, and nothing came of them yet. */
#define S3_FRESH_MAX 256

struct s3_upload;

/* Where a person finds it, and what a signature is for. */
struct s3_place {
	char *base; /* "https://host:port", with the bucket's name in it or not */
	char *host; /* as the header has it */
};

struct s3_credentials {
	char *access_key, *secret_key, *session_token; /* the latter NULL: none */
};

struct s3 {
	struct storage storage;
	unsigned magic;
	struct s3_place inner, outer; /* for us; for clients */
	char *region, *bucket, *prefix, *ca_file; /* prefix "": none; ca_file NULL: the system's */
	char *access_key_file, *secret_key_file, *session_token_file;
	bool in_path; /* the bucket is a part of the path, not of the host's name */
	bool direct; /* clients fetch from there */
	char installation[SHA256_HEX_LEN];
	struct http_client_pool *pool;
	atomic_bool stop;
	pthread_mutex_t lock; /* for what follows */
	struct s3_credentials credentials;
	int64_t credentials_ms; /* when they were read (monotonic) */
	struct s3_upload *uploads; /* under way or interrupted */
	char fresh[S3_FRESH_MAX][UUID_LEN]; /* a ring; "": none */
	size_t next_fresh;
	int64_t complained_ms;
	bool down, probing; /* it did not answer; somebody asks whether it does again */
	int64_t probe_ms; /* not before (monotonic) */
};
struct s3 *s3_of(struct storage *s);

/* s3_settings.c */
int s3_read_settings(struct s3 *s, const json_t *table, struct why *why) MUST_USE;
/* Copies; the files are read anew if that was a minute ago, or if `now`. *ret_changed (may be NULL): they were others.
 */
void s3_credentials_take(struct s3 *s, bool now, struct s3_credentials *ret, bool *ret_changed);
void s3_credentials_fini(struct s3_credentials *c);
void s3_settings_fini(struct s3 *s);

/* s3_client.c */
#define S3_QUERY_MAX 8
struct s3_request {
	const char *method;
	const char *object; /* its name in the bucket; NULL: the bucket itself */
	struct sigv4_pair query[S3_QUERY_MAX];
	size_t n_query;
	const void *body; /* NULL: none */
	size_t body_len;
	const char *range; /* "bytes=0-99"; NULL: all */
	size_t max_body; /* of the answer; 0: 2 MiB */
	bool xml; /* a 2xx answer is a document of S3, and may be an error */
	bool patient; /* the answer may take a minute */
};
struct s3_answer {
	int status;
	struct strbuf body;
	char *etag;
	struct s3_error error;
};
/* Signs, sends, and tries again with growing pauses where that helps, for 20 s at most. Once it did not help, only one
 * request at a time asks whether it does again, and the others fail at once: they have threads that others need. OK: a
 * 2xx answer. ERR_NOT_FOUND: no such object or upload; ERR_EMPTY: the range lies behind the end; ERR_NET: anything
 * else, with `why` in words for whoever runs the server (NULL: a line of the log has them, one a minute);
 * ERR_CANCELLED: the server stops. *ret is for s3_answer_fini in any case. Blocks. */
int s3_do(struct s3 *s, const struct s3_request *rq, struct s3_answer *ret, struct why *why) MUST_USE;
void s3_answer_fini(struct s3_answer *a);
/* The name of an object in the bucket, malloc'ed. The key must be one. */
char *s3_object(const struct s3 *s, const char *key);
/* malloc'ed: the path of an object (NULL: of the bucket) as it is sent. */
char *s3_path(const struct s3 *s, const char *object);

/* s3_upload.c: how content gets there. */
void s3_announce(struct storage *s, const char *key);
/* A multipart upload of that object begins; *ret is its id, malloc'ed. */
int s3_begin_upload(struct s3 *s, const char *object, char **ret, struct why *why) MUST_USE;
int s3_received(struct storage *s, const char *key, int64_t *ret) MUST_USE;
int s3_begin(struct storage *s, const char *key, int64_t offset, struct storage_piece **ret) MUST_USE;
int s3_write(struct storage_piece *p, const void *bytes, size_t len) MUST_USE;
int s3_finish(struct storage_piece *p, int64_t size, const char sha256[SHA256_HEX_LEN]) MUST_USE;
void s3_end(struct storage_piece **p);
/* What is remembered of an upload of that key goes; one that is written now is cut off at its next part. */
void s3_upload_forget(struct s3 *s, const char *key);
void s3_uploads_free(struct s3 *s);

/* s3.c */
/* The size of the finished object. ERR_NOT_FOUND. */
int s3_size(struct s3 *s, const char *key, int64_t *ret) MUST_USE;
/* Calls fn with the uploads of that object that are under way, all of them, until it returns other than OK. */
int s3_each_upload(
    struct s3 *s, const char *object, int (*fn)(void *ctx, const struct s3_item *it), void *ctx) MUST_USE;
int s3_abort_upload(struct s3 *s, const char *object, const char *upload_id, struct why *why) MUST_USE;
