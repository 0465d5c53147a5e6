/* The header "WWW-Authenticate" (RFC 9110, 11.6.1). */
#include "base/mem.h"
#include "server/oauth/oauth.h"
#include <string.h>
#include <strings.h>

#define VALUE_MAX 2048

struct scanner {
	const char *at;
};

static const char token_characters[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

static void skip_blanks(struct scanner *s)
{
	s->at += strspn(s->at, " \t");
}

static char *take_token(struct scanner *s)
{
	size_t n = strspn(s->at, token_characters);
	char *out = n > 0 ? str_ndup(s->at, n) : NULL;

	s->at += n;
	return out;
}

/* Between quotes, with '\' before what is meant literally; or everything up to the next separator. */
static char *challenge_value(struct scanner *s)
{
	struct strbuf b = STRBUF(VALUE_MAX);

	if (*s->at != '"') {
		size_t n = strcspn(s->at, ", \t");

		strbuf_add(&b, s->at, n);
		s->at += n;
		return strbuf_take(&b);
	}
	for (s->at++; *s->at != '\0' && *s->at != '"'; s->at++) {
		if (*s->at == '\\' && s->at[1] != '\0')
			s->at++;
		strbuf_addc(&b, *s->at);
	}
	s->at += *s->at == '"';
	return strbuf_take(&b);
}

static void challenge_take(struct challenge *c, const char *name, char *value)
{
	char **field = strcasecmp(name, "resource_metadata") == 0 ? &c->resource_metadata
		       : strcasecmp(name, "scope") == 0		  ? &c->scope
		       : strcasecmp(name, "error") == 0		  ? &c->error
								  : NULL;

	/* The first one counts. */
	if (field != NULL && *field == NULL)
		*field = TAKE(value);
	free(value);
}

bool challenge_parse(const char *header, struct challenge *ret)
{
	struct scanner s = {header != NULL ? header : ""};
	bool bearer = false, seen = false;

	*ret = (struct challenge){0};
	while (*s.at != '\0') {
		AUTO_STR word = NULL;

		s.at += strspn(s.at, ", \t");
		word = take_token(&s);
		if (word == NULL) {
			s.at += *s.at != '\0'; /* nothing that belongs here */
			continue;
		}
		skip_blanks(&s);
		if (*s.at != '=') {
			bearer = strcasecmp(word, "Bearer") == 0;
			seen |= bearer;
			continue;
		}
		s.at++;
		/* The token68 of another scheme may end with several. */
		s.at += strspn(s.at, "=");
		skip_blanks(&s);
		if (bearer)
			challenge_take(ret, word, challenge_value(&s));
		else
			free(challenge_value(&s));
	}
	return seen;
}

void challenge_fini(struct challenge *c)
{
	str_free(&c->resource_metadata);
	str_free(&c->scope);
	str_free(&c->error);
}
