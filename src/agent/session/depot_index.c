/* The index of a checkout on its way from one folder to another. */
#include "agent/session/depot.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_INDEX_BYTES ((size_t)512 * 1024 * 1024)

static char *read_whole(int fd, size_t max, size_t *ret_len)
{
	struct strbuf b = STRBUF(max);
	AUTO_STR chunk = mem_alloc(256 * 1024);
	ssize_t n = 0;

	while (!b.overflowed && (n = read(fd, chunk, 256 * 1024)) > 0)
		strbuf_add(&b, chunk, (size_t)n);
	if (n < 0 || b.overflowed) {
		strbuf_fini(&b);
		return NULL;
	}
	*ret_len = b.len;
	return strbuf_take(&b);
}

/* The time of an index says which of its entries may have changed after it was written: it has to come along. */
bool depot_copy_index(int from_fd, const char *to_dir, const char *to_name)
{
	AUTO_STR to = str_printf("%s/%s", to_dir, to_name);
	AUTO_STR bytes = NULL;
	struct stat st;
	size_t len;
	int fd;

	unlink(to);
	/* The time first: if the index is written anew in between, its entries are looked at once more than needed. */
	if (from_fd < 0 || fstat(from_fd, &st) != 0 || !S_ISREG(st.st_mode) ||
	    (bytes = read_whole(from_fd, MAX_INDEX_BYTES, &len)) == NULL)
		return false;
	fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	bool ok =
	    write(fd, bytes, len) == (ssize_t)len && futimens(fd, (struct timespec[]){st.st_mtim, st.st_mtim}) == 0;

	close(fd);
	if (!ok)
		unlink(to);
	return ok;
}

#define INDEX_ENTRY 62 /* of version 2, before the name, with SHA-1 */
#define MODE_OF_SUBMODULE 0160000
#define ASSUME_UNCHANGED 0x8000
#define HAS_MORE_FLAGS 0x4000 /* skip-worktree, intent-to-add: only those in use set it */

static uint32_t be32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

/* gitformat-index(5). What is not as expected is not plain. */
static bool is_plain(const char *p, size_t len)
{
	size_t at = 12;
	uint32_t n;

	if (len < 12 + 20 || memcmp(p, "DIRC", 4) != 0 || be32(p + 4) != 2)
		return false;
	n = be32(p + 8);
	for (uint32_t i = 0; i < n; i++) {
		const char *entry = p + at;

		if (len - at < INDEX_ENTRY + 20)
			return false;
		uint32_t mode = be32(entry + 24), flags = be32(entry + 58) & 0xffff;
		size_t name = strnlen(entry + INDEX_ENTRY, len - at - INDEX_ENTRY);

		if (mode == MODE_OF_SUBMODULE || (flags & (ASSUME_UNCHANGED | HAS_MORE_FLAGS)) != 0)
			return false;
		at += (INDEX_ENTRY + name + 8) & ~(size_t)7;
		if (at > len)
			return false;
	}
	/* Extensions in capitals may be passed over; others are needed to read it. */
	while (len - at >= 20 + 8) {
		if (p[at] < 'A' || p[at] > 'Z' || be32(p + at + 4) > len - at - 8)
			return false;
		at += 8 + be32(p + at + 4);
	}
	return len - at == 20;
}

bool depot_index_is_plain(const char *git_dir)
{
	AUTO_STR path = str_printf("%s/index", git_dir);
	AUTO_STR bytes = NULL;
	size_t len;

	return text_read_file(path, MAX_INDEX_BYTES, &bytes, &len) == OK && is_plain(bytes, len);
}

/* Every index that is written has another. */
static char *stamp_of_index(const struct seed *seed)
{
	AUTO_STR path = str_printf("%s/index", seed->git_dir);
	struct stat st;

	if (stat(path, &st) != 0)
		return str_dup("none");
	return str_printf("%lld.%09ld %llx %lld", (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
	    (unsigned long long)st.st_ino, (long long)st.st_size);
}

static bool remembers_index(const struct depot *k, const char *stamp)
{
	AUTO_STR path = str_printf("%s/checked/stamp", k->dir);
	AUTO_STR text = NULL;
	size_t len;

	return text_read_file(path, 256, &text, &len) == OK && strcmp(text, stamp) == 0;
}

static bool copy_from(const char *from_dir, const char *to_dir)
{
	AUTO_STR path = str_printf("%s/index", from_dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool ok = depot_copy_index(fd, to_dir, "index");

	if (fd >= 0)
		close(fd);
	return ok;
}

static void write_stamp(const char *dir, const char *stamp)
{
	AUTO_STR path = str_printf("%s/stamp", dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return;
	IGNORE(write(fd, stamp, strlen(stamp)));
	close(fd);
}

void depot_remember_index(const struct depot *k, const struct seed *seed, const char *git_dir, bool anew)
{
	AUTO_STR dir = str_printf("%s/checked", k->dir);
	AUTO_STR stamp = stamp_of_index(seed);

	if (!anew && remembers_index(k, stamp))
		return;
	if (folder_make(dir, NULL) == OK && copy_from(git_dir, dir))
		write_stamp(dir, stamp);
}

/* One that another git is writing is not there yet. */
void depot_bring_index(const struct depot *k, const struct seed *seed, const char *dir)
{
	AUTO_STR checked = str_printf("%s/checked", k->dir);
	AUTO_STR stamp = stamp_of_index(seed);

	if (!remembers_index(k, stamp) || !copy_from(checked, dir))
		copy_from(seed->git_dir, dir);
}
