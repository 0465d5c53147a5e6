#include "base/errors.h"
#include "base/mem.h"
#include "net/grpc.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define MAX_MSG 1000

static struct strbuf three_messages(void)
{
	struct strbuf b = STRBUF(4096);
	char big[300];

	memset(big, 'x', sizeof(big));
	assert_int_equal(grpc_frame(&b, "abc", 3), OK);
	assert_int_equal(grpc_frame(&b, "", 0), OK);
	assert_int_equal(grpc_frame(&b, big, sizeof(big)), OK);
	return b;
}

/* Takes all whole messages; returns how many, and checks the n-th against what three_messages made. */
static int take_all(struct grpc_reader *r, int n)
{
	static const size_t lens[] = {3, 0, 300};
	const void *msg;
	size_t len;

	while (grpc_reader_next(r, &msg, &len) == OK) {
		assert_true(n < 3);
		assert_int_equal(len, lens[n]);
		if (n == 0)
			assert_memory_equal(msg, "abc", 3);
		if (n == 2)
			assert_int_equal(((const char *)msg)[299], 'x');
		n++;
	}
	return n;
}

static void messages_survive_any_cut(void **state)
{
	AUTO_FINI(strbuf) b = three_messages();

	for (size_t cut = 0; cut <= b.len; cut++) {
		struct grpc_reader r;
		int n;

		grpc_reader_init(&r, MAX_MSG);
		assert_int_equal(grpc_reader_feed(&r, b.data, cut), OK);
		n = take_all(&r, 0);
		assert_int_equal(grpc_reader_feed(&r, b.data + cut, b.len - cut), OK);
		assert_int_equal(take_all(&r, n), 3);
		grpc_reader_fini(&r);
	}
}

static void messages_survive_single_bytes(void **state)
{
	AUTO_FINI(strbuf) b = three_messages();
	struct grpc_reader r;
	int n = 0;

	grpc_reader_init(&r, MAX_MSG);
	for (size_t i = 0; i < b.len; i++) {
		assert_int_equal(grpc_reader_feed(&r, b.data + i, 1), OK);
		n = take_all(&r, n);
	}
	assert_int_equal(n, 3);
	grpc_reader_fini(&r);
}

static void too_large_is_refused_by_its_prefix(void **state)
{
	struct grpc_reader r;
	const void *msg;
	size_t len;

	grpc_reader_init(&r, MAX_MSG);
	assert_int_equal(grpc_reader_feed(&r, "\0\0\0\3\350", 5), OK); /* 1000 */
	grpc_reader_fini(&r);
	grpc_reader_init(&r, MAX_MSG);
	assert_int_equal(grpc_reader_feed(&r, "\0\0\0\3\351", 5), ERR_TOO_LARGE);
	assert_int_equal(grpc_reader_next(&r, &msg, &len), ERR_TOO_LARGE);
	grpc_reader_fini(&r);
	/* Behind a good message, which can still be taken. */
	grpc_reader_init(&r, MAX_MSG);
	assert_int_equal(grpc_reader_feed(&r, "\0\0\0\0\1A\0\377\377\377\377", 11), ERR_TOO_LARGE);
	assert_int_equal(grpc_reader_next(&r, &msg, &len), OK);
	assert_int_equal(len, 1);
	assert_int_equal(grpc_reader_next(&r, &msg, &len), ERR_TOO_LARGE);
	grpc_reader_fini(&r);
}

static void compressed_is_refused(void **state)
{
	struct grpc_reader r;

	grpc_reader_init(&r, MAX_MSG);
	assert_int_equal(grpc_reader_feed(&r, "\1", 1), ERR_PROTOCOL);
	grpc_reader_fini(&r);
}

static void frame_respects_the_buffer(void **state)
{
	AUTO_FINI(strbuf) b = STRBUF(10);

	assert_int_equal(grpc_frame(&b, "123456", 6), ERR_TOO_LARGE);
	assert_int_equal(b.len, 0);
	assert_int_equal(grpc_frame(&b, "12345", 5), OK);
	assert_memory_equal(b.data, "\0\0\0\0\005", 5);
	assert_int_equal(grpc_frame(&b, "", 0), ERR_TOO_LARGE);
}

static void message_is_percent_encoded(void **state)
{
	AUTO_STR enc = grpc_message_encode("50% of ünits\n\"ok\" ~");
	AUTO_STR dec = grpc_message_decode(enc);
	AUTO_STR odd = grpc_message_decode("100% %zz %4 %00 %41");

	assert_string_equal(enc, "50%25 of %C3%BCnits%0A\"ok\" ~");
	assert_string_equal(dec, "50% of ünits\n\"ok\" ~");
	assert_string_equal(odd, "100% %zz %4 %00 A");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(messages_survive_any_cut),
	    cmocka_unit_test(messages_survive_single_bytes),
	    cmocka_unit_test(too_large_is_refused_by_its_prefix),
	    cmocka_unit_test(compressed_is_refused),
	    cmocka_unit_test(frame_respects_the_buffer),
	    cmocka_unit_test(message_is_percent_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
