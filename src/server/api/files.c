/* Files of a folder as answers. */
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((off_t)16 * 1024 * 1024)

static const char *type_by_name(const char *name)
{
	static const char *const types[][2] = {{".html", "text/html; charset=utf-8"},
	    {".css", "text/css; charset=utf-8"}, {".js", "text/javascript; charset=utf-8"},
	    {".mjs", "text/javascript; charset=utf-8"}, {".json", "application/json"},
	    {".txt", "text/plain; charset=utf-8"}, {".svg", "image/svg+xml"}, {".png", "image/png"},
	    {".ico", "image/x-icon"}, {".woff2", "font/woff2"}};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (text_has_suffix(name, types[i][0]))
			return types[i][1];
	return "application/octet-stream";
}

/* Segment by segment, each of plain characters and none a link: so no path leads out of the folder, whatever it was
 * before it was decoded. The descriptor, or -1. */
static int open_below(const char *folder, const char *path)
{
	int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

	while (at >= 0) {
		AUTO_STR name = str_ndup(path, strcspn(path, "/"));
		bool last = path[strlen(name)] == '\0';
		bool plain = name[0] != '.' && text_is_token(name, "._-", 255);
		/* O_NONBLOCK: opening a pipe that lies there must not wait for a writer. */
		int next = plain ? openat(at, name,
				       O_NOFOLLOW | O_CLOEXEC | (last ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY))
				 : -1;

		close(at);
		at = next;
		if (last)
			break;
		path += strlen(name) + 1;
	}
	return at;
}

static int read_all(int fd, size_t len, char **ret)
{
	AUTO_STR bytes = mem_alloc(len + 1);
	size_t n = 0;

	while (n < len) {
		ssize_t got = read(fd, bytes + n, len - n);

		if (got <= 0)
			return ERR_IO; /* it became shorter meanwhile */
		n += (size_t)got;
	}
	bytes[len] = '\0';
	*ret = TAKE(bytes);
	return OK;
}

/* Whether If-None-Match lists the tag, weak or not. */
static bool has_tag(const char *list, const char *tag)
{
	return list != NULL && (strcmp(list, "*") == 0 || strstr(list, tag) != NULL);
}

static void reply_content(struct api_request *rq, const char *path, const char *bytes, size_t len)
{
	char hash[SHA256_HEX_LEN];
	AUTO_STR tag = NULL;

	/* Of the content, not of time and size: the same file has the same tag on every node. */
	sha256_hex(bytes, len, hash);
	tag = str_printf("\"%.32s\"", hash);
	rq->cacheable = true;
	const struct http_header h[] = {{"etag", tag}, {"x-content-type-options", "nosniff"}};

	if (has_tag(http_header_get(rq->x, "if-none-match"), tag))
		api_reply_bytes(rq, 304, NULL, "", 0, h, ARRAY_LEN(h));
	else
		api_reply_bytes(rq, 200, type_by_name(path), bytes, len, h, ARRAY_LEN(h));
}

void api_reply_file(struct api_request *rq, const char *folder, const char *path)
{
	AUTO_STR bytes = NULL;
	struct stat st;
	int fd = open_below(folder, path), rc = ERR_NOT_FOUND;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= FILE_MAX)
		rc = read_all(fd, (size_t)st.st_size, &bytes);
	if (fd >= 0)
		close(fd);
	if (rc == OK)
		reply_content(rq, path, bytes, (size_t)st.st_size);
	else
		api_error(rq, API_not_found, "there is no such file");
}
