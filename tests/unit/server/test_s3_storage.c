/* The storage in S3 as far as it asks nobody: what is not a part yet is in memory. Nobody listens where its settings
 * say. */
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/artifacts/storage.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define ROOM 32 /* uploads at once */
#define SHA_OF_HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define OTHER_SHA "3cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static char folder[] = "/tmp/bullpen-s3-XXXXXX";
static char *access_file, *secret_file;

static char *key_file(const char *name, const char *text)
{
	char *path = str_printf("%s/%s", folder, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	return path;
}

static int make_folder(void **state)
{
	id_init();
	assert_non_null(mkdtemp(folder));
	access_file = key_file("access", "AKIDTEST\n");
	secret_file = key_file("secret", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n");
	return 0;
}

static int remove_folder(void **state)
{
	unlink(access_file);
	unlink(secret_file);
	rmdir(folder);
	str_free(&access_file);
	str_free(&secret_file);
	return 0;
}

static struct storage *open_storage(void)
{
	AUTO_JSON settings = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "endpoint", "http://127.0.0.1:1", "bucket",
	    "b-1", "prefix", "p", "region", "r-1", "access_key_file", access_file, "secret_key_file", secret_file);
	struct storage *s = NULL;
	struct why why = {0};

	if (storage_s3_new(settings, "me", &s, &why) != OK)
		fail_msg("%s", why.text);
	return s;
}

static void key_of(int n, char out[UUID_LEN])
{
	snprintf(out, UUID_LEN, "%08d-2222-4333-8444-555555555555", n);
}

static struct storage_piece *begin(struct storage *s, const char *key, int64_t offset, int expected)
{
	struct storage_piece *p = NULL;

	assert_int_equal(s->kind->begin(s, key, offset, &p), expected);
	return p;
}

static void a_rest_stays_from_one_piece_to_the_next(void **state)
{
	struct storage *s = open_storage();
	struct storage_piece *p;
	char key[UUID_LEN];
	int64_t received = -1;

	key_of(1, key);
	s->kind->announce(s, key);
	p = begin(s, key, 0, OK);
	begin(s, key, 0, ERR_AGAIN);
	assert_int_equal(s->kind->write(p, "hel", 3), OK);
	assert_int_equal(s->kind->received(s, key, &received), OK);
	assert_int_equal(received, 3);
	s->kind->end(&p);
	assert_null(p);
	begin(s, key, 2, ERR_CONFLICT);
	begin(s, key, 0, ERR_CONFLICT);
	p = begin(s, key, 3, OK);
	assert_int_equal(s->kind->write(p, "lo", 2), OK);
	/* Neither asks S3: what is wrong is known before. */
	assert_int_equal(s->kind->finish(p, 6, SHA_OF_HELLO), ERR_INVALID);
	s->kind->end(&p);
	s->kind->free(&s);
}

static void what_is_not_what_was_announced_is_not_sent(void **state)
{
	struct storage *s = open_storage();
	struct storage_piece *p;
	char key[UUID_LEN];

	key_of(1, key);
	s->kind->announce(s, key);
	p = begin(s, key, 0, OK);
	assert_int_equal(s->kind->write(p, "hello", 5), OK);
	assert_int_equal(s->kind->finish(p, 5, OTHER_SHA), ERR_INVALID);
	s->kind->end(&p);
	s->kind->free(&s);
}

static void memory_is_bounded(void **state)
{
	struct storage *s = open_storage();
	char key[UUID_LEN];
	int64_t received;

	for (int i = 0; i <= ROOM; i++) {
		struct storage_piece *p;

		key_of(i, key);
		s->kind->announce(s, key);
		p = begin(s, key, 0, i < ROOM ? OK : ERR_FULL);
		if (p != NULL)
			assert_int_equal(s->kind->write(p, "hello", 5), OK);
		s->kind->end(&p);
	}
	/* Those that are on their way are not pushed out by others. */
	key_of(0, key);
	assert_int_equal(s->kind->received(s, key, &received), OK);
	assert_int_equal(received, 5);
	s->kind->free(&s);
}

static void only_keys_are_names(void **state)
{
	struct storage *s = open_storage();
	struct storage_file *f = NULL;

	begin(s, "../../etc/passwd", 0, ERR_INTERNAL);
	assert_int_equal(s->kind->open(s, "x", &f), ERR_INTERNAL);
	assert_int_equal(s->kind->forget(s, ""), ERR_INTERNAL);
	s->kind->free(&s);
}

static void a_link_has_everything_in_its_signature(void **state)
{
	struct storage *s = open_storage();
	char key[UUID_LEN];

	key_of(1, key);
	AUTO_STR url = s->kind->link(s, key, "attachment; filename=\"a b\"", 1369353600000, 900);
	AUTO_STR again = s->kind->link(s, key, "attachment; filename=\"a b\"", 1369353600000, 900);
	AUTO_STR other = s->kind->link(s, key, "attachment; filename=\"a c\"", 1369353600000, 900);

	assert_true(text_has_prefix(url, "http://127.0.0.1:1/b-1/p/00/00000001-2222-4333-8444-555555555555?"
					 "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDTEST%2F20130524%2Fr-1%"
					 "2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=900"
					 "&X-Amz-SignedHeaders=host&response-cache-control=private%2C%20no-store"
					 "&response-content-disposition=attachment%3B%20filename%3D%22a%20b%22"
					 "&response-content-type=application%2Foctet-stream&X-Amz-Signature="));
	assert_string_equal(url, again);
	assert_string_not_equal(strstr(url, "Signature="), strstr(other, "Signature="));
	assert_string_equal(s->kind->origin(s), "http://127.0.0.1:1");
	s->kind->free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_rest_stays_from_one_piece_to_the_next),
	    cmocka_unit_test(what_is_not_what_was_announced_is_not_sent),
	    cmocka_unit_test(memory_is_bounded),
	    cmocka_unit_test(only_keys_are_names),
	    cmocka_unit_test(a_link_has_everything_in_its_signature),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
