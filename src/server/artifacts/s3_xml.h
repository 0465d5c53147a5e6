/* artifacts/s3_xml.h: what S3 answers in XML: lists, the id of an upload, errors. Only what such documents are made of
 * is read (elements, text, the five entities and numbers of characters); a DOCTYPE, which can make a document grow or
 * read files, is refused. Pure. Thread: any. */
#pragma once
#include "base/errors.h"

#define S3_XML_DEPTH_MAX 16
#define S3_XML_NAME_MAX 64
#define S3_XML_TEXT_MAX 8192 /* of one element */

/* Calls fn at the end of each element, from the inner to the outer: its name (without a prefix), that of the one around
 * it ("" for the outermost), and its own text, which is "" where it has elements inside. A result of fn other than OK
 * ends it and is returned. ERR_PROTOCOL: it is no such document; fn was called for what came before. */
int s3_xml_each(const char *text, size_t len,
    int (*fn)(void *ctx, const char *parent, const char *name, const char *value), void *ctx) MUST_USE;

/* What an error says; texts are "" where it does not. */
struct s3_error {
	char code[S3_XML_NAME_MAX], region[S3_XML_NAME_MAX];
	char message[256]; /* one line of UTF-8 */
};
/* False: the document is no error (also where it is none at all). */
bool s3_xml_error(const char *text, size_t len, struct s3_error *ret);

/* One page of ListObjectsV2, ListMultipartUploads or ListParts. */
struct s3_item {
	char *key; /* as it is in the bucket; NULL in a list of parts */
	char *upload_id, *etag; /* NULL where there is none */
	int64_t size, part, at_ms; /* at_ms: when it was changed or begun */
};
struct s3_page {
	struct s3_item *items;
	size_t n, cap;
	char *next, *next_upload; /* where the next page begins; NULL: this is the last */
};
#define S3_PAGE_MAX 1000
/* ERR_PROTOCOL: no list, or one that is not as it has to be. *ret is for s3_page_fini in any case. */
int s3_xml_page(const char *text, size_t len, struct s3_page *ret) MUST_USE;
void s3_page_fini(struct s3_page *p);
/* UploadId of an InitiateMultipartUploadResult; malloc'ed. ERR_PROTOCOL. */
int s3_xml_upload_id(const char *text, size_t len, char **ret) MUST_USE;
