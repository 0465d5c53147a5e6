/* A link fed by the fuzzer, in either role, with the handshake done or not. First byte: bit 0 the role, bit 1 a
 * handshake before, the rest the size of the pieces. */
#include "link/link.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void answer(struct link **l, const struct link_event *e)
{
	if (e->kind != LINK_HELLO)
		return;
	if (e->hello->received_seq == 3)
		link_refuse(*l, "unauthorized", "no", true, 0);
	else
		link_welcome(*l, 1);
}

static void drain(struct link *l)
{
	struct link_event e;
	const void *bytes;
	size_t n;

	while (link_next(l, &e) == OK)
		answer(&l, &e);
	n = link_out(l, &bytes);
	link_sent(l, n);
}

static void feed(struct link *l, const uint8_t *data, size_t size, size_t piece)
{
	struct why why;
	int rc = OK;

	for (size_t at = 0; at < size && rc == OK; at += piece) {
		rc = link_feed(l, data + at, MIN(piece, size - at), (int64_t)at + 1, &why);
		drain(l);
		if (rc == OK)
			rc = link_tick(l, (int64_t)at + 1, &why);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Welcome {server_incarnation: 1}, Hello {incarnation: 1}. */
	static const uint8_t welcome[] = "\0\0\0\0\x0b\x1a\x09\x09\x01\0\0\0\0\0\0\0";
	static const uint8_t hello[] = "\0\0\0\0\x0b\x1a\x09\x11\x01\0\0\0\0\0\0\0";
	struct link_config cfg = {.incarnation = 1, .max_message = 64 * 1024};
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct link *l;

	if (size == 0)
		return 0;
	cfg.role = data[0] & 1 ? LINK_SERVER : LINK_WORKER;
	l = link_new(&cfg);
	link_attach(l, cfg.role == LINK_WORKER ? &h : NULL, 1);
	if (data[0] & 2) {
		feed(l, cfg.role == LINK_WORKER ? welcome : hello, sizeof welcome - 1, 64);
		ENSURE(link_ready(l));
	}
	feed(l, data + 1, size - 1, (size_t)(data[0] >> 2) + 1);
	link_detach(l);
	drain(l);
	link_free(&l);
	return 0;
}
