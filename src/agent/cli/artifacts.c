/* agent artifacts: what an agent left under artifacts/, listed or fetched. */
#include "agent/cli/client.h"
#include "agent/cli/verbs.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "net/http_client.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define STALL_MS 60000

static int list_files(struct client *c, const char *agent_id)
{
	AUTO_STR path = str_printf("/v1/agents/%s/artifacts", agent_id);
	AUTO_JSON answer = NULL;
	const json_t *item;
	int status = EXIT_DONE;
	size_t i;

	if (client_call(c, "GET", path, NULL, &answer, &status) != OK)
		return status;
	json_array_foreach(json_object_get(answer, "items"), i, item)
	{
		AUTO_STR name = terminal_clean(json_field(item, "path"), TERMINAL_LINE);
		AUTO_STR at = terminal_clean(json_field(item, "updatedAt"), TERMINAL_LINE);

		if (c->json)
			client_print_json(item);
		else
			printf("%12lld  %.19s  %s\n", (long long)json_integer_value(json_object_get(item, "sizeBytes")),
			    at, name);
	}
	if (!c->json && i == 0)
		puts("no artifacts");
	return EXIT_DONE;
}

/* "artifacts/a b.txt" as the value of a query; malloc'ed. */
static char *percent_encoded(const char *text)
{
	static const char hex[] = "0123456789ABCDEF", plain[] = "-._~/";
	char *out = mem_alloc(3 * strlen(text) + 1);
	size_t n = 0;

	for (const unsigned char *s = (const unsigned char *)text; *s != '\0'; s++) {
		bool letter = (*s | 32) >= 'a' && (*s | 32) <= 'z';

		if (letter || (*s >= '0' && *s <= '9') || strchr(plain, *s) != NULL) {
			out[n++] = (char)*s;
		} else {
			out[n++] = '%';
			out[n++] = hex[*s >> 4];
			out[n++] = hex[*s & 15];
		}
	}
	out[n] = '\0';
	return out;
}

struct saving {
	const char *name;
	int fd, error; /* errno of a write that failed */
};

static int save_bytes(void *ctx, const void *bytes, size_t len)
{
	struct saving *s = ctx;
	const char *at = bytes;

	while (len > 0) {
		ssize_t n = write(s->fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			s->error = errno;
			return ERR_IO;
		}
		at += n;
		len -= (size_t)n;
	}
	return OK;
}

/* The link needs no key, and gets none: it may lead to another host. */
static int fetch_link(struct client *c, const char *url, struct saving *s)
{
	const struct http_client_request req = {
	    .method = "GET", .url = url, .stall_timeout_ms = STALL_MS, .on_data = save_bytes, .ctx = s};
	struct http_client_response r = {0};
	struct why why = {""};
	int rc = http_client_do(&req, &r, &why), status = EXIT_DONE;

	if (s->error != 0) {
		client_error("cannot write %s: %s", s->name, strerror(s->error));
		status = EXIT_FAILED;
	} else if (rc != OK) {
		client_error("%s", why.text);
		status = EXIT_UNREACHABLE;
	} else if (r.status != 200) {
		status = client_refused(c, &r);
	}
	http_client_response_fini(&r);
	return status;
}

/* What is there is not overwritten, unless it was named. */
static int open_output(const char *name, bool named)
{
	int fd;

	if (named && strcmp(name, "-") == 0)
		return dup(STDOUT_FILENO);
	fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC | (named ? O_TRUNC : O_EXCL | O_NOFOLLOW), 0666);
	if (fd < 0 && errno == EEXIST)
		client_error("%s exists: give another name with -o FILE", name);
	else if (fd < 0)
		client_error("cannot write %s: %s", name, strerror(errno));
	return fd;
}

static int save_link(struct client *c, const char *url, const char *name, bool named)
{
	struct saving s = {.name = name, .fd = open_output(name, named)};
	int status;

	if (s.fd < 0)
		return EXIT_FAILED;
	status = fetch_link(c, url, &s);
	if (close(s.fd) != 0 && status == EXIT_DONE) {
		client_error("cannot write %s: %s", name, strerror(errno));
		status = EXIT_FAILED;
	}
	/* A part of a file is none. */
	if (status != EXIT_DONE && !(named && strcmp(name, "-") == 0))
		unlink(name);
	return status;
}

static int get_file(struct client *c, const char *agent_id, const char *path, const char *output)
{
	AUTO_STR encoded = percent_encoded(path);
	AUTO_STR ask = str_printf("/v1/agents/%s/artifacts/download?path=%s", agent_id, encoded);
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	AUTO_JSON answer = NULL;
	int status = EXIT_DONE;

	if (client_call(c, "GET", ask, NULL, &answer, &status) != OK)
		return status;
	status = save_link(c, json_field(answer, "url"), output != NULL ? output : name, output != NULL);
	if (status == EXIT_DONE && output == NULL && !c->json) {
		AUTO_STR clean = terminal_clean(name, TERMINAL_LINE);

		printf("saved %s\n", clean);
	}
	return status;
}

static int perform_verb(struct client *c, const struct option_words *words, const char *output)
{
	AUTO_STR id = words->n > 0 ? str_dup(words->v[0]) : NULL;

	if (id == NULL) {
		client_error("name an agent: agent artifacts AGENT");
		return EXIT_USAGE;
	}
	id_lower(id);
	if (!id_is(id, "bc-")) {
		client_error("'%.80s' is no agent (bc-…)", words->v[0]);
		return EXIT_USAGE;
	}
	if (words->n == 1 && output == NULL)
		return list_files(c, id);
	if (words->n == 3 && strcmp(words->v[1], "get") == 0)
		return get_file(c, id, words->v[2], output);
	client_error("name what to get: agent artifacts AGENT get PATH [-o FILE]");
	return EXIT_USAGE;
}

int verb_artifacts(int argc, char **argv)
{
	const char *output = NULL;
	const struct option_row rows[] = {
	    {.name = "output",
		.letter = 'o',
		.value = "FILE",
		.text = &output,
		.help = "where to; '-' is standard output; default: the artifact's own name, "
			"here,\nif there is no such file"},
	    {0}};
	const struct options verb = {.usage = "agent artifacts AGENT [get PATH [-o FILE]] [options]",
	    .about = "Lists the files that an agent left under artifacts/ of its workspace, newest first, or gets one.",
	    .rows = rows,
	    .footer = CLIENT_EXIT_STATUS ",\n1 the file cannot be written."};
	struct option_words words;
	struct client c = {0};
	int status = EXIT_USAGE;

	if (client_parse(&c, argc, argv, &verb, 3, &words, &status) == OK)
		status = perform_verb(&c, &words, output);
	client_fini(&c);
	return status;
}
