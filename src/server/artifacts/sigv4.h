/* artifacts/sigv4.h: AWS Signature Version 4, as S3 wants it: requests signed in a header, and addresses that are
 * signed themselves. Pure: texts in, texts out. Thread: any. (libcurl signs, too, but makes no addresses, and 7.88
 * signs queries as they are given: adr/0041.) */
#pragma once
#include "base/id.h"

struct sigv4_pair {
	const char *name, *value; /* neither is NULL */
};

struct sigv4_who {
	const char *access_key, *secret_key;
	const char *session_token; /* NULL: none; only for addresses, else it is one of the headers */
	const char *region, *service;
};

struct sigv4_request {
	const char *method;
	const char *path; /* as it is sent, sigv4_path() */
	const struct sigv4_pair *query; /* as they are meant: not encoded, in any order */
	size_t n_query;
	const struct sigv4_pair *headers; /* all that are signed; names are small letters; in any order */
	size_t n_headers;
	const char *payload; /* what x-amz-content-sha256 says */
};

#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
#define SIGV4_TIME_LEN 17
#define SIGV4_ITEMS_MAX 24

/* "20130524T000000Z", the value of x-amz-date. */
void sigv4_time(int64_t wall_ms, char out[SIGV4_TIME_LEN]);
/* Percent-encodes everything but unreserved characters; '/' too, if `slash`. malloc'ed. */
char *sigv4_encode(const char *text, bool slash);
/* The query as it is signed and sent: encoded and ordered, without '?'. At most SIGV4_ITEMS_MAX. malloc'ed. */
char *sigv4_query(const struct sigv4_pair *query, size_t n);
/* The value of Authorization. `at`: sigv4_time. malloc'ed. */
char *sigv4_authorization(const struct sigv4_who *who, const struct sigv4_request *rq, const char at[SIGV4_TIME_LEN]);
/* The query of an address that is good for `seconds` from `at` on, the signature included. Only `host` of the headers
 * is signed, as a browser sends no other; rq->headers has it. malloc'ed. */
char *sigv4_presign(
    const struct sigv4_who *who, const struct sigv4_request *rq, const char at[SIGV4_TIME_LEN], int64_t seconds);
