/* The lines of a head, byte by byte. The parser behind it is more tolerant than is good between two servers: it takes a
 * bare LF, a folded line or an empty name, which another server may read as a different request. */
#include "net/h1_priv.h"

static bool line_ends(struct h1_guard *g)
{
	bool empty = g->in_line == 0;

	g->in_line = 0;
	if (empty && g->lines > 0)
		g->done = true;
	else if (!empty)
		g->lines++;
	/* Some clients send an empty line after a body; a server may skip it (RFC 9112, 2.2). */
	return true;
}

/* The request line has two spaces, each between words. */
static bool request_byte(struct h1_guard *g, char c)
{
	if (c != ' ')
		return true;
	return g->in_line > 0 && g->before != ' ';
}

static bool header_byte(struct h1_guard *g, char c)
{
	return g->in_line > 0 || (c != ' ' && c != '\t' && c != ':');
}

static bool h1_guard_take(struct h1_guard *g, char c)
{
	if (g->before == '\r')
		return c == '\n' && line_ends(g);
	if (c == '\n' || c == '\0')
		return false;
	if (c == '\r')
		return true;
	if (g->lines == 0 ? !request_byte(g, c) : !header_byte(g, c))
		return false;
	if (g->lines == 0 && g->in_line == g->matched && c == H1_HEAD_WORD[g->matched])
		g->matched++;
	g->in_line++;
	return true;
}

bool h1_guard_check(struct h1_guard *g, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && !g->done; i++) {
		if (!h1_guard_take(g, bytes[i]))
			return false;
		g->before = bytes[i];
	}
	return true;
}
