/* What S3 answers: lists, pages, errors, and what is no such document. */
#include "base/mem.h"
#include "server/artifacts/s3_xml.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static int page(const char *text, struct s3_page *ret)
{
	return s3_xml_page(text, strlen(text), ret);
}

static void a_list_of_objects(void **state)
{
	AUTO_FINI(s3_page) p = {0};

	assert_int_equal(
	    page("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		 "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n <Name>b</Name>\n"
		 " <IsTruncated>true</IsTruncated><NextContinuationToken>1/x&amp;=</NextContinuationToken>\n"
		 " <Contents><Key>a&lt;&#x41;&#252;</Key><LastModified>2026-05-01T12:00:00.000Z</LastModified>"
		 "<ETag>&quot;e&quot;</ETag><Size>12</Size><Owner><ID>z</ID></Owner></Contents>\n"
		 " <Contents><Size>9223372036854775807</Size><Key/></Contents></ListBucketResult>\n",
		&p),
	    OK);
	assert_int_equal(p.n, 2);
	assert_string_equal(p.items[0].key, "a<A\xc3\xbc");
	assert_string_equal(p.items[0].etag, "\"e\"");
	assert_int_equal(p.items[0].size, 12);
	assert_int_equal(p.items[0].at_ms, 1777636800000);
	assert_string_equal(p.items[1].key, "");
	assert_int_equal(p.items[1].size, INT64_MAX);
	assert_string_equal(p.next, "1/x&=");
}

static void lists_of_uploads_and_parts(void **state)
{
	AUTO_FINI(s3_page) uploads = {0};
	AUTO_FINI(s3_page) parts = {0};

	assert_int_equal(
	    page("<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
		 "<NextUploadIdMarker>i</NextUploadIdMarker><Upload><Key>k</Key><UploadId>i</UploadId>"
		 "<Initiated>2026-05-01T12:00:00Z</Initiated></Upload></ListMultipartUploadsResult>",
		&uploads),
	    OK);
	assert_string_equal(uploads.items[0].upload_id, "i");
	assert_string_equal(uploads.next, "k");
	assert_string_equal(uploads.next_upload, "i");
	/* MinIO says where a next page would begin also where there is none. */
	assert_int_equal(page("<ListPartsResult><IsTruncated>false</IsTruncated><NextPartNumberMarker>7"
			      "</NextPartNumberMarker><Part><PartNumber>7</PartNumber><ETag>\"x\"</ETag><Size>5</Size>"
			      "</Part></ListPartsResult>",
			     &parts),
	    OK);
	assert_int_equal(parts.items[0].part, 7);
	assert_null(parts.next);
}

static void errors(void **state)
{
	static const char text[] =
	    "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please\nreduce</Message>"
	    "<Region>eu-1</Region><Resource>/x</Resource></Error>";
	static const char list[] = "<ListBucketResult><Code>SlowDown</Code></ListBucketResult>";
	static const char odd[] = "<Error><Code>a b</Code></Error>";
	struct s3_error e;

	assert_true(s3_xml_error(text, strlen(text), &e));
	assert_string_equal(e.code, "SlowDown");
	assert_string_equal(e.message, "Please reduce");
	assert_string_equal(e.region, "eu-1");
	assert_false(s3_xml_error(list, strlen(list), &e));
	assert_string_equal(e.code, "");
	assert_false(s3_xml_error("", 0, &e));
	assert_true(s3_xml_error(odd, strlen(odd), &e));
	assert_string_equal(e.code, "");
}

static void what_is_none(void **state)
{
	static const char *const bad[] = {"", " ", "x", "<a>", "</a>", "<a></b>", "<a><b></a></b>", "<a/><b></b>",
	    "<a>&nbsp;</a>", "<a>&#0;</a>", "<a>&#xd800;</a>", "<a>&#99999999999999999999;</a>", "<a>&#x;</a>",
	    "<a>&</a>", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "<a><![CDATA[x]]></a>", "<a b='>", "<a b=\"<\">",
	    "<a <b>", "<?xml", "<!-- <a/>", "<ListBucketResult/><x></x>", "<NoList/>",
	    "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
	    "<ListBucketResult><Contents><Size>-1</Size></Contents></ListBucketResult>",
	    "<ListBucketResult><Contents><Size>1x</Size></Contents></ListBucketResult>",
	    "<ListPartsResult><Part><PartNumber>10001</PartNumber></Part></ListPartsResult>",
	    "<ListBucketResult><Contents><LastModified>now</LastModified></Contents></ListBucketResult>",
	    "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>"};
	AUTO_STR id = NULL;
	static const char good[] =
	    "\n  <!-- kept alive --><x:InitiateMultipartUploadResult a='>'><UploadId>u</UploadId>"
	    "</x:InitiateMultipartUploadResult>\n",
			  none[] = "<InitiateMultipartUploadResult/>";

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO_FINI(s3_page) p = {0};

		if (page(bad[i], &p) != ERR_PROTOCOL)
			fail_msg("taken: %s", bad[i]);
	}
	assert_int_equal(s3_xml_upload_id(none, strlen(none), &id), ERR_PROTOCOL);
	assert_int_equal(s3_xml_upload_id(good, strlen(good), &id), OK);
	assert_string_equal(id, "u");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_list_of_objects),
	    cmocka_unit_test(lists_of_uploads_and_parts),
	    cmocka_unit_test(errors),
	    cmocka_unit_test(what_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
