/* Start, drain and end of the HTTP server. */
#include "base/mem.h"
#include "net/http_priv.h"
#include "net/tls_priv.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_LOOPS 256

struct http_server {
	struct server_limits limits;
	uint16_t port;
	unsigned n_loops;
	struct io_loop *loops[MAX_LOOPS];
};

static int parse_address(
    const struct http_server_config *cfg, struct sockaddr_storage *ret, socklen_t *ret_len, struct why *why)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

	*ret = (struct sockaddr_storage){0};
	if (inet_pton(AF_INET, cfg->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(cfg->port);
		*ret_len = sizeof(*v4);
		return OK;
	}
	if (inet_pton(AF_INET6, cfg->host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(cfg->port);
		*ret_len = sizeof(*v6);
		return OK;
	}
	return why_set(why, ERR_NET, "cannot listen on \"%s\": it is not a numeric address", cfg->host);
}

static int bind_socket(const struct http_server_config *cfg, int *ret_fd, uint16_t *ret_port, struct why *why)
{
	struct sockaddr_storage ss;
	socklen_t len = 0;
	int fd, rc, one = 1;

	rc = parse_address(cfg, &ss, &len, why);
	if (rc != OK)
		return rc;
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return why_set(why, ERR_NET, "cannot make a socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&ss, len) != 0 || listen(fd, SOMAXCONN) != 0) {
		rc = why_set(why, ERR_NET, "cannot listen on %s port %u: %s", cfg->host, cfg->port,
		    errno == EADDRINUSE ? "address in use" : strerror(errno));
		close(fd);
		return rc;
	}
	len = sizeof(ss);
	ENSURE(getsockname(fd, (struct sockaddr *)&ss, &len) == 0);
	*ret_port = ntohs(
	    ss.ss_family == AF_INET ? ((struct sockaddr_in *)&ss)->sin_port : ((struct sockaddr_in6 *)&ss)->sin6_port);
	*ret_fd = fd;
	return OK;
}

static void set_limits(struct server_limits *lim, const struct http_server_config *cfg)
{
	lim->callbacks = cfg->callbacks;
	lim->max_head_bytes = cfg->max_head_bytes != 0 ? cfg->max_head_bytes : (size_t)32 * 1024;
	lim->max_headers = cfg->max_headers != 0 ? cfg->max_headers : 100;
	lim->max_connections = cfg->max_connections != 0 ? cfg->max_connections : 100000;
	lim->max_buffered = cfg->max_buffered != 0 ? cfg->max_buffered : (size_t)1024 * 1024 * 1024;
	lim->peers = cfg->max_per_peer != 0 ? peers_new(cfg->max_per_peer) : NULL;
	lim->max_streams = cfg->max_streams != 0 ? cfg->max_streams : 100;
	lim->head_timeout_ms = cfg->head_timeout_ms != 0 ? cfg->head_timeout_ms : 10000;
	lim->idle_timeout_ms = cfg->idle_timeout_ms != 0 ? cfg->idle_timeout_ms : 60000;
	lim->body_timeout_ms = cfg->body_timeout_ms != 0 ? cfg->body_timeout_ms : 30000;
}

int http_server_start(const struct http_server_config *cfg, struct http_server **ret, struct why *why)
{
	AUTO(http_server) s = NULL;
	unsigned want = MIN(MAX(cfg->loops, 1u), MAX_LOOPS);
	int fd = -1, rc = OK;

	ENSURE((cfg->tls_cert == NULL) == (cfg->tls_key == NULL));
	ENSURE(
	    cfg->callbacks.on_head != NULL && cfg->callbacks.on_request != NULL && cfg->callbacks.on_too_large != NULL);
	s = NEW(struct http_server);
	set_limits(&s->limits, cfg);
	if (cfg->tls_cert != NULL)
		rc = tls_load(cfg->tls_cert, cfg->tls_key, &s->limits.tls, why);
	if (rc == OK)
		rc = bind_socket(cfg, &fd, &s->port, why);
	while (rc == OK && s->n_loops < want) {
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

		if (copy < 0)
			rc = why_set(why, ERR_NET, "cannot listen: %s", strerror(errno));
		else
			rc = loop_start(&s->loops[s->n_loops], &s->limits, copy, why);
		if (rc == OK)
			s->n_loops++;
	}
	if (fd >= 0)
		close(fd);
	if (rc == OK)
		*ret = TAKE(s);
	return rc;
}

uint16_t http_server_port(const struct http_server *s)
{
	return s->port;
}

int http_server_reload_tls(struct http_server *s, struct why *why)
{
	ENSURE(s->limits.tls != NULL);
	return tls_reload(s->limits.tls, why);
}

void http_server_drain(struct http_server *s)
{
	for (unsigned i = 0; i < s->n_loops; i++)
		IGNORE(inbox_post(s->loops[i]->inbox, cmd_new(CMD_DRAIN, NULL, NULL, 0)));
}

void http_server_free(struct http_server **sp)
{
	struct http_server *s = TAKE(*sp);

	if (s == NULL)
		return;
	for (unsigned i = 0; i < s->n_loops; i++)
		IGNORE(inbox_post(s->loops[i]->inbox, cmd_new(CMD_STOP, NULL, NULL, 0)));
	for (unsigned i = 0; i < s->n_loops; i++)
		loop_join(&s->loops[i]);
	peers_free(&s->limits.peers);
	tls_free(&s->limits.tls);
	free(s);
}
