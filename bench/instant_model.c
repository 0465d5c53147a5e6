/* A model that answers at once, for the cost of everything else: bench-model TURNS
 * Listens on a free port of 127.0.0.1 and prints it. POST …/chat/completions is answered as a stream: a call of
 * run_terminal_cmd until the request holds TURNS results of tools, then a sentence. A thread a connection. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "bench/measure.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX ((size_t)16 * 1024 * 1024)
#define COMMAND "true"

static int turns;

static size_t count(const char *text, const char *word)
{
	size_t n = 0;

	while ((text = strstr(text, word)) != NULL) {
		text += strlen(word);
		n++;
	}
	return n;
}

static void send_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		bytes += n;
		len -= (size_t)n;
	}
}

/* One event as one chunk of the body. `choice` is the inside of choices[0]; NULL: the usage. */
static void add(struct strbuf *b, const char *choice)
{
	static const char head[] = "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1,"
				   "\"model\":\"instant\",\"choices\":[";
	AUTO_STR event =
	    choice != NULL
		? str_printf("data: %s{\"index\":0,%s}]}\n\n", head, choice)
		: str_printf(
		      "data: %s],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":10,\"total_tokens\":110}}"
		      "\n\ndata: [DONE]\n\n",
		      head);

	strbuf_addf(b, "%zx\r\n%s\r\n", strlen(event), event);
}

static void answer_turn(struct strbuf *b, size_t done)
{
	if (done >= (size_t)turns) {
		add(b, "\"delta\":{\"role\":\"assistant\",\"content\":\"All done.\"},\"finish_reason\":null");
		add(b, "\"delta\":{},\"finish_reason\":\"stop\"");
		return;
	}
	AUTO_STR call =
	    str_printf("\"delta\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,"
		       "\"id\":\"call_%zu\",\"type\":\"function\",\"function\":{\"name\":\"run_terminal_cmd\","
		       "\"arguments\":\"\"}}]},\"finish_reason\":null",
		done);

	add(b, call);
	add(b, "\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
	       "\"{\\\"command\\\":\\\"" COMMAND "\\\"}\"}}]},\"finish_reason\":null");
	add(b, "\"delta\":{},\"finish_reason\":\"tool_calls\"");
}

static void answer(int fd, const char *head, const char *body)
{
	static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"instant\",\"object\":\"model\"}]}";
	struct strbuf b = STRBUF(64 * 1024);

	if (strncmp(head, "POST ", 5) != 0) {
		strbuf_addf(&b, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
		    strlen(models), models);
	} else {
		strbuf_adds(
		    &b, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
		answer_turn(&b, count(body, "\"role\":\"tool\"") + count(body, "\"role\": \"tool\""));
		add(&b, NULL);
		strbuf_adds(&b, "0\r\n\r\n");
	}
	send_all(fd, b.data, b.len);
	strbuf_fini(&b);
}

static size_t content_length(const char *head)
{
	const char *at = strcasestr(head, "\r\ncontent-length:");
	size_t n = at != NULL ? (size_t)strtoull(at + 17, NULL, 10) : 0;

	if (n > REQUEST_MAX)
		bench_die("a request of %zu bytes", n);
	return n;
}

/* Reads until buf holds `need` bytes; false at the end of the connection. */
static bool fill(int fd, struct strbuf *b, size_t need)
{
	char piece[64 * 1024];

	while (b->len < need) {
		ssize_t n = recv(fd, piece, sizeof piece, 0);

		if (n <= 0 || strbuf_add(b, piece, (size_t)n) != 0)
			return false;
	}
	return true;
}

static bool serve_one(int fd, struct strbuf *b)
{
	const char *end;
	size_t body_at, len;

	while ((end = strstr(strbuf_str(b), "\r\n\r\n")) == NULL)
		if (!fill(fd, b, b->len + 1))
			return false;
	AUTO_STR head = str_ndup(b->data, (size_t)(end - b->data));

	body_at = (size_t)(end - b->data) + 4;
	len = content_length(head);
	if (strcasestr(head, "\r\nexpect: 100-continue") != NULL)
		send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	if (!fill(fd, b, body_at + len))
		return false;
	AUTO_STR body = str_ndup(b->data + body_at, len);

	strbuf_consume(b, body_at + len);
	answer(fd, head, body);
	return true;
}

static void *connection(void *arg)
{
	int fd = (int)(intptr_t)arg, on = 1;
	struct strbuf b = STRBUF(2 * REQUEST_MAX);

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	while (serve_one(fd, &b))
		;
	strbuf_fini(&b);
	close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	turns = (int)bench_number("TURNS", argc == 2 ? argv[1] : NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (bind(listener, (struct sockaddr *)&at, len) != 0 || listen(listener, 64) != 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) != 0)
		bench_die("cannot listen: %s", strerror(errno));
	printf("%u\n", ntohs(at.sin_port));
	fflush(stdout);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		pthread_t t;

		if (fd >= 0 && pthread_create(&t, NULL, connection, (void *)(intptr_t)fd) == 0)
			pthread_detach(t);
	}
}
