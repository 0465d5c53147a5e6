/* The storage that needs nothing: KEY.part while it arrives, KEY when it is whole, in 256 folders by the first two
 * digits of the key. */
#include "base/folder.h"
#include "base/mem.h"
#include "server/artifacts/storage.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_MAGIC 0x61727466u

struct folder {
	struct storage storage;
	unsigned magic;
	char *path;
};

struct storage_piece {
	struct folder *folder;
	char *part, *whole;
	int fd;
	bool finished; /* fd is the whole one */
};

struct storage_file {
	int fd;
};

static struct folder *folder_of(struct storage *s)
{
	return OBJ_FROM(folder, (void *)s, FOLDER_MAGIC);
}

/* Keys are ours; that they are is checked all the same, for they become names of files. */
static int name_of(const struct folder *f, const char *key, const char *suffix, char **ret)
{
	if (!id_is(key, ""))
		return ERR_INTERNAL;
	*ret = str_printf("%s/%.2s/%s%s", f->path, key, key, suffix);
	return OK;
}

static int make_parent(const struct folder *f, const char *key)
{
	AUTO_STR dir = str_printf("%s/%.2s", f->path, key);

	return mkdir(dir, 0700) == 0 || errno == EEXIST ? OK : err_from_errno(errno);
}

static int size_of(const char *path, int64_t *ret)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? ERR_NOT_FOUND : err_from_errno(errno);
	*ret = st.st_size;
	return OK;
}

static int folder_received(struct storage *s, const char *key, int64_t *ret)
{
	AUTO_STR whole = NULL;
	AUTO_STR part = NULL;
	int rc = name_of(folder_of(s), key, "", &whole);

	if (rc == OK)
		rc = name_of(folder_of(s), key, ".part", &part);
	if (rc == OK)
		rc = size_of(whole, ret);
	if (rc == ERR_NOT_FOUND)
		rc = size_of(part, ret);
	if (rc == ERR_NOT_FOUND) {
		*ret = 0;
		rc = OK;
	}
	return rc;
}

static void piece_end(struct storage_piece **pp)
{
	struct storage_piece *p = TAKE(*pp);

	if (p == NULL)
		return;
	if (p->fd >= 0)
		close(p->fd);
	free(p->part);
	free(p->whole);
	free(p);
}

/* The lock goes with the descriptor: also two handlers of this process shut each other out. */
static int piece_open(struct storage_piece *p)
{
	p->fd = open(p->whole, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	p->finished = p->fd >= 0;
	if (p->fd < 0)
		p->fd = open(p->part, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p->fd < 0)
		return err_from_errno(errno);
	return flock(p->fd, LOCK_EX | LOCK_NB) == 0 ? OK : ERR_AGAIN;
}

static int folder_begin(struct storage *s, const char *key, int64_t offset, struct storage_piece **ret)
{
	struct folder *f = folder_of(s);
	struct storage_piece *p = NEW(struct storage_piece);
	struct stat st;
	int rc;

	p->folder = f;
	p->fd = -1;
	rc = name_of(f, key, "", &p->whole);
	if (rc == OK)
		rc = name_of(f, key, ".part", &p->part);
	if (rc == OK)
		rc = make_parent(f, key);
	if (rc == OK)
		rc = piece_open(p);
	if (rc == OK && fstat(p->fd, &st) != 0)
		rc = err_from_errno(errno);
	if (rc == OK && st.st_size != offset)
		rc = ERR_CONFLICT;
	if (rc != OK) {
		piece_end(&p);
		return rc;
	}
	*ret = p;
	return OK;
}

static int folder_write(struct storage_piece *p, const void *bytes, size_t len)
{
	const char *at = bytes;

	if (p->finished)
		return ERR_CONFLICT;
	while (len > 0) {
		ssize_t n = write(p->fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_from_errno(errno);
		at += n;
		len -= (size_t)n;
	}
	return OK;
}

static int sync_parent(const char *path)
{
	AUTO_STR dir = str_ndup(path, (size_t)(strrchr(path, '/') - path));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = OK;

	if (fd < 0 || fsync(fd) != 0)
		rc = err_from_errno(errno);
	if (fd >= 0)
		close(fd);
	return rc;
}

static int folder_finish(struct storage_piece *p, int64_t size, const char sha256[SHA256_HEX_LEN])
{
	char hash[SHA256_HEX_LEN];
	int64_t len;

	if (!sha256_hex_fd(p->fd, NULL, NULL, hash, &len))
		return err_from_errno(errno);
	if (len != size || strcmp(hash, sha256) != 0)
		return ERR_INVALID;
	if (p->finished)
		return OK;
	/* Forgotten meanwhile, if the name is not there any more. */
	if (fsync(p->fd) != 0 || rename(p->part, p->whole) != 0)
		return errno == ENOENT ? ERR_NOT_FOUND : err_from_errno(errno);
	p->finished = true;
	return sync_parent(p->whole);
}

static int folder_open(struct storage *s, const char *key, struct storage_file **ret)
{
	AUTO_STR path = NULL;
	int rc = name_of(folder_of(s), key, "", &path), fd;

	if (rc != OK)
		return rc;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? ERR_NOT_FOUND : err_from_errno(errno);
	*ret = NEW(struct storage_file);
	(*ret)->fd = fd;
	return OK;
}

static int folder_read(struct storage_file *f, int64_t offset, void *buf, size_t len, size_t *ret_len)
{
	ssize_t n;

	do
		n = pread(f->fd, buf, len, offset);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_from_errno(errno);
	*ret_len = (size_t)n;
	return n > 0 ? OK : ERR_EMPTY;
}

static void folder_close(struct storage_file **fp)
{
	struct storage_file *f = TAKE(*fp);

	if (f == NULL)
		return;
	close(f->fd);
	free(f);
}

static int folder_forget(struct storage *s, const char *key)
{
	static const char *const suffixes[] = {"", ".part"};
	int rc = OK;

	for (size_t i = 0; rc == OK && i < ARRAY_LEN(suffixes); i++) {
		AUTO_STR path = NULL;

		rc = name_of(folder_of(s), key, suffixes[i], &path);
		if (rc == OK && unlink(path) != 0 && errno != ENOENT)
			rc = err_from_errno(errno);
	}
	return rc;
}

static void folder_free(struct storage **sp)
{
	struct storage *s = TAKE(*sp);

	if (s == NULL)
		return;
	free(folder_of(s)->path);
	free(s);
}

static const struct storage_kind folder_kind = {
    .received = folder_received,
    .begin = folder_begin,
    .write = folder_write,
    .finish = folder_finish,
    .end = piece_end,
    .open = folder_open,
    .read = folder_read,
    .close = folder_close,
    .forget = folder_forget,
    .free = folder_free,
};

int storage_folder_new(const char *folder, struct storage **ret, struct why *why)
{
	struct folder *f;
	int rc = folder_make(folder, why);

	if (rc != OK)
		return rc;
	f = NEW(struct folder);
	f->storage.kind = &folder_kind;
	f->magic = FOLDER_MAGIC;
	f->path = str_dup(folder);
	*ret = &f->storage;
	return OK;
}
