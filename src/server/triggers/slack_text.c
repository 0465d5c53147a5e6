/* Slack's text: markup of what people write, escapes of what we say, and the few sentences that are commands. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/triggers/slack_priv.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

#define TEXT_MAX ((size_t)1024 * 1024)

struct decoding {
	struct strbuf out;
	const char *bot;
	char *(*name)(void *ctx, const char *user);
	void *ctx;
	bool mentioned;
};

static void add_plain(struct strbuf *b, const char *s, size_t n)
{
	static const struct {
		const char *code;
		char c;
	} codes[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}};

	for (size_t at = 0; at < n;) {
		size_t taken = 0;

		for (size_t i = 0; i < ARRAY_LEN(codes) && taken == 0; i++) {
			size_t len = strlen(codes[i].code);

			if (n - at >= len && memcmp(s + at, codes[i].code, len) == 0) {
				IGNORE(strbuf_addc(b, codes[i].c));
				taken = len;
			}
		}
		if (taken == 0)
			IGNORE(strbuf_addc(b, s[at]));
		at += taken > 0 ? taken : 1;
	}
}

static void add_person(struct decoding *d, const char *id, size_t n, const char *label, size_t label_len)
{
	AUTO_STR user = str_ndup(id, n);
	AUTO_STR name = NULL;

	if (d->bot != NULL && !d->mentioned && strcmp(user, d->bot) == 0) {
		d->mentioned = true;
		return;
	}
	if (label_len > 0)
		name = str_ndup(label, label_len);
	else if (d->name != NULL)
		name = d->name(d->ctx, user);
	IGNORE(strbuf_addf(&d->out, "@%s", name != NULL ? name : user));
}

/* Whether what comes next is the value of an option. */
static bool is_value(const struct strbuf *out)
{
	return out->len > 0 && (out->data[out->len - 1] == '=' ||
				   (out->len > 1 && out->data[out->len - 1] == '"' && out->data[out->len - 2] == '='));
}

/* An address. As the value of an option it is what was typed; else label and address, where they differ. */
static void add_link(struct decoding *d, const char *url, size_t n, const char *label, size_t label_len)
{
	bool value = is_value(&d->out);
	size_t scheme = n > 7 && strncasecmp(url, "http://", 7) == 0	? 7
			: n > 8 && strncasecmp(url, "https://", 8) == 0 ? 8
			: n > 7 && strncasecmp(url, "mailto:", 7) == 0	? 7
									: 0;
	bool typed = label_len > 0 && label_len == n - scheme && strncasecmp(label, url + scheme, label_len) == 0;

	if (typed) {
		add_plain(&d->out, label, label_len);
		return;
	}
	if (!value && label_len > 0) {
		add_plain(&d->out, label, label_len);
		IGNORE(strbuf_adds(&d->out, " ("));
	}
	add_plain(&d->out, url, n);
	if (!value && label_len > 0)
		IGNORE(strbuf_addc(&d->out, ')'));
}

/* What stands between < and >. */
static void add_marked(struct decoding *d, const char *s, size_t n)
{
	const char *bar = memchr(s, '|', n);
	size_t len = bar != NULL ? (size_t)(bar - s) : n, label_len = bar != NULL ? n - len - 1 : 0;
	const char *label = bar != NULL ? bar + 1 : s;

	if (len > 1 && s[0] == '@') {
		add_person(d, s + 1, len - 1, label, label_len);
	} else if (len > 1 && s[0] == '#' && is_value(&d->out)) {
		add_plain(&d->out, s + 1, len - 1);
	} else if (len > 1 && s[0] == '#') {
		IGNORE(strbuf_addc(&d->out, '#'));
		add_plain(&d->out, label_len > 0 ? label : s + 1, label_len > 0 ? label_len : len - 1);
	} else if (len > 1 && s[0] == '!') {
		const char *caret = memchr(s, '^', len);

		if (label_len == 0 || label[0] != '@')
			IGNORE(strbuf_addc(&d->out, '@'));
		if (label_len > 0)
			add_plain(&d->out, label, label_len);
		else if (caret != NULL)
			add_plain(&d->out, caret + 1, len - (size_t)(caret + 1 - s));
		else
			add_plain(&d->out, s + 1, len - 1);
	} else {
		add_link(d, s, len, label, label_len);
	}
}

char *slack_decode(
    const char *text, const char *bot, char *(*name)(void *ctx, const char *user), void *ctx, bool *ret_mentioned)
{
	struct decoding d = {.out = STRBUF(TEXT_MAX), .bot = bot, .name = name, .ctx = ctx};

	for (const char *at = text; *at != '\0';) {
		size_t n = strcspn(at, "<"), marked;

		add_plain(&d.out, at, n);
		at += n;
		if (*at == '\0')
			break;
		marked = strcspn(at + 1, "<>\n");
		if (at[1 + marked] == '>' && marked > 0) {
			add_marked(&d, at + 1, marked);
			at += marked + 2;
		} else {
			IGNORE(strbuf_addc(&d.out, '<'));
			at++;
		}
	}
	if (ret_mentioned != NULL)
		*ret_mentioned = d.mentioned;
	return strbuf_take(&d.out);
}

static size_t escaped_len(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += *text == '&' ? 5 : *text == '<' || *text == '>' ? 4 : 1;
	return n;
}

char *slack_escape(const char *text, size_t max)
{
	static const char more[] = " […]";
	struct strbuf b = STRBUF(max);
	size_t len = strlen(text), n, room = escaped_len(text) > max ? max - strlen(more) : max;

	for (size_t at = 0; at < len; at += n) {
		uint32_t point;
		const char *as;
		size_t as_len;

		n = text_utf8_decode(text + at, len - at, &point);
		as = text + at;
		as_len = n;
		if (n == 0) {
			n = 1;
			as = "?";
		} else if (*as == '&' || *as == '<' || *as == '>') {
			as = *as == '&' ? "&amp;" : *as == '<' ? "&lt;" : "&gt;";
		} else {
			as = NULL;
		}
		as_len = as != NULL ? strlen(as) : as_len;
		if (b.len + as_len > room) {
			IGNORE(strbuf_adds(&b, more));
			break;
		}
		IGNORE(strbuf_add(&b, as != NULL ? as : text + at, as_len));
	}
	return strbuf_take(&b);
}

/* Behind the word and the blanks that follow it; NULL: it does not stand there. */
static const char *behind(const char *s, const char *word)
{
	size_t n = strlen(word);

	if (strncasecmp(s, word, n) != 0 || !(s[n] == '\0' || isspace((unsigned char)s[n]) || strchr(",:.!", s[n])))
		return NULL;
	s += n;
	return s + strspn(s, " \t\r\n,:.!");
}

const char *slack_forced(const char *text)
{
	static const char *const verbs[] = {"start", "create", "launch"};
	const char *s = text + strspn(text, " \t\r\n"), *rest = behind(s, "agent");

	for (size_t i = 0; rest == NULL && i < ARRAY_LEN(verbs); i++) {
		const char *at = behind(s, verbs[i]);

		if (at != NULL && behind(at, "a") != NULL)
			at = behind(at, "a");
		at = at != NULL ? behind(at, "new") : NULL;
		rest = at != NULL ? behind(at, "agent") : NULL;
		if (rest != NULL && behind(rest, "to") != NULL)
			rest = behind(rest, "to");
	}
	if (rest == NULL && behind(s, "new") != NULL) {
		rest = behind(behind(s, "new"), "agent");
		rest = rest != NULL ? behind(rest, "please") : NULL;
	}
	return rest;
}

/* The one word at `s`, or what stands in quotes there, and at most one word behind it, which is one of `tails`
 * ("channel", NULL-terminated). False: it is something else. */
static bool take_value(const char *s, const char *const *tails, char *ret, size_t size, const char **ret_tail)
{
	bool quoted = *s == '"';
	const char *from = s + quoted, *rest;
	size_t n = strcspn(from, quoted ? "\"\r\n" : " \t\r\n\"");

	if (n == 0 || n >= size || (quoted && from[n] != '"'))
		return false;
	rest = from + n + quoted;
	if (*rest != '\0' && *rest != ' ')
		return false;
	rest += strspn(rest, " ");
	*ret_tail = "";
	if (*rest != '\0') {
		for (; *tails != NULL && strcasecmp(rest, *tails) != 0; tails++)
			;
		if (*tails == NULL)
			return false;
		*ret_tail = *tails;
	}
	snprintf(ret, size, "%.*s", (int)n, from);
	return true;
}

static const char *const of_repo[] = {"channel", "me", NULL}, *const of_machine[] = {NULL},
			 *const of_summaries[] = {"channel", "shared", NULL};

/* "repo set owner/name channel", "machine set NAME", "summaries off shared", and what takes them back. */
static struct slack_command default_of(const char *s)
{
	static const struct {
		const char *words;
		enum slack_command_kind kind;
		const char *const *tails;
	} setters[] = {{"repo set ", SLACK_REPO_SET, of_repo}, {"machine set ", SLACK_MACHINE_SET, of_machine},
	    {"summaries ", SLACK_SUMMARIES_SET, of_summaries}};
	struct slack_command c = {.kind = SLACK_NONE};
	const char *tail = "";

	for (size_t i = 0; i < ARRAY_LEN(setters); i++) {
		size_t n = strlen(setters[i].words);
		const char *value = s + n;

		if (strncasecmp(s, setters[i].words, n) == 0 &&
		    take_value(value + strspn(value, " "), setters[i].tails, c.text, sizeof c.text, &tail))
			c.kind = setters[i].kind;
	}
	c.for_channel = strcmp(tail, "channel") == 0;
	c.for_me = strcmp(tail, "me") == 0 || c.kind == SLACK_MACHINE_SET;
	c.for_shared = strcmp(tail, "shared") == 0;
	if (c.kind == SLACK_REPO_SET && !trigger_is_repo(c.text))
		return (struct slack_command){.kind = SLACK_NONE};
	if (c.kind == SLACK_SUMMARIES_SET) {
		if (strcasecmp(c.text, "on") != 0 && strcasecmp(c.text, "off") != 0)
			return (struct slack_command){.kind = SLACK_NONE};
		for (char *at = c.text; *at != '\0'; at++)
			*at = (char)tolower((unsigned char)*at);
	}
	return c;
}

struct slack_command slack_command_of(const char *text)
{
	static const struct {
		const char *words;
		enum slack_command_kind kind;
		bool for_channel, for_me;
	} whole[] = {{"list my agents", SLACK_LIST, false}, {"settings", SLACK_SETTINGS, false},
	    {"help", SLACK_HELP, false}, {"pool", SLACK_POOL, false}, {"pool unset", SLACK_POOL_UNSET, false},
	    {"pool unset channel", SLACK_POOL_UNSET, true}, {"repo", SLACK_REPO, false},
	    {"repo unset", SLACK_REPO_SET, false}, {"repo unset channel", SLACK_REPO_SET, true},
	    {"repo unset me", SLACK_REPO_SET, false, true}, {"machine", SLACK_MACHINE, false},
	    {"machine unset", SLACK_MACHINE_SET, false, true}, {"summaries", SLACK_SUMMARIES, false},
	    {"summaries unset channel", SLACK_SUMMARIES_SET, true}};
	struct slack_command c = {.kind = SLACK_NONE};
	AUTO_STR s = text_trim(text);
	const char *name, *rest;
	size_t n;

	for (size_t i = 0; i < ARRAY_LEN(whole); i++)
		if (strcasecmp(s, whole[i].words) == 0)
			return (struct slack_command){
			    .kind = whole[i].kind, .for_channel = whole[i].for_channel, .for_me = whole[i].for_me};
	if (strncasecmp(s, "pool set ", 9) != 0)
		return default_of(s);
	/* Exactly one name: "pool set up CI" is a prompt. */
	name = s + 9 + strspn(s + 9, " ");
	n = strcspn(name, " \t\r\n");
	rest = name + n + strspn(name + n, " ");
	if (n == 0 || n >= sizeof c.pool || (*rest != '\0' && strcasecmp(rest, "channel") != 0))
		return c;
	snprintf(c.pool, sizeof c.pool, "%.*s", (int)n, name);
	if (!isalnum((unsigned char)c.pool[0]) || !text_is_token(c.pool, "._-", 63))
		return (struct slack_command){.kind = SLACK_NONE};
	c.for_channel = *rest != '\0';
	c.kind = SLACK_POOL_SET;
	return c;
}

void slack_phrases_fini(struct slack_phrases *p)
{
	str_free(&p->repo);
	str_free(&p->branch);
	str_free(&p->model);
}

/* The word at `s`, without the marks that end a sentence. */
static char *word_at(const char *s)
{
	size_t n = strcspn(s, " \t\r\n,;:!?()\"'`");

	while (n > 0 && s[n - 1] == '.')
		n--;
	return n > 0 ? str_ndup(s, n) : NULL;
}

static bool is_path_of_repo(const char *w)
{
	const char *slash = strchr(w, '/');

	return slash != NULL && slash != w && slash[1] != '\0' && strchr(slash + 1, '/') == NULL &&
	       text_is_token(w, "-._/", 200);
}

/* "in acme/backend" */
static void phrase_repo(const char *s, struct slack_phrases *p)
{
	char *word = word_at(s);

	if (word != NULL && p->repo == NULL && is_path_of_repo(word))
		p->repo = TAKE(word);
	free(word);
}

/* "work from the dev branch", "from branch dev" */
static void phrase_branch(const char *s, struct slack_phrases *p)
{
	const char *rest = behind(s, "from");
	char *word;

	rest = rest != NULL ? behind(rest, "the") : NULL;
	word = rest != NULL ? word_at(rest) : NULL;
	if (word != NULL && p->branch == NULL && text_is_git_ref(word) && word[0] != '-' &&
	    behind(rest + strlen(word) + strspn(rest + strlen(word), " "), "branch") != NULL)
		p->branch = TAKE(word);
	free(word);
}

/* "with opus" */
static void phrase_model(const char *s, bool (*is_model)(const char *name), struct slack_phrases *p)
{
	char *word = word_at(s);

	if (word != NULL && p->model == NULL && is_model(word))
		p->model = TAKE(word);
	free(word);
}

void slack_phrases_of(const char *text, bool (*is_model)(const char *name), struct slack_phrases *ret)
{
	bool code = false;

	for (const char *s = text; *s != '\0'; s++) {
		if (*s == '`')
			code = !code;
		if (code || (s > text && !isspace((unsigned char)s[-1])))
			continue;
		if (behind(s, "in") != NULL)
			phrase_repo(behind(s, "in"), ret);
		if (behind(s, "work") != NULL)
			phrase_branch(behind(s, "work"), ret);
		if (behind(s, "with") != NULL)
			phrase_model(behind(s, "with"), is_model, ret);
	}
}
