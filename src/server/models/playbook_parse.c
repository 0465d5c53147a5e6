#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/models/playbook.h"
#include <string.h>

#define BODY_MAX (1024 * 1024)

void playbook_fini(struct playbook *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->steps[i].label);
		free(p->steps[i].tool);
		free(p->steps[i].problem);
		json_decref(p->steps[i].arguments);
	}
	free(p->steps);
	*p = (struct playbook){0};
}

struct book_line {
	const char *s;
	size_t len;
};

static bool playbook_parse_next_line(const char **at, struct book_line *ret)
{
	const char *end = strchr(*at, '\n');

	if (**at == '\0')
		return false;
	ret->s = *at;
	ret->len = end != NULL ? (size_t)(end - *at) : strlen(*at);
	*at += ret->len + (end != NULL);
	if (ret->len > 0 && ret->s[ret->len - 1] == '\r')
		ret->len--;
	return true;
}

/* The length of the fence that opens or closes on this line, 0 if there is none; its character and what follows it. */
static size_t fence(struct book_line l, char *ret_char, struct book_line *ret_rest)
{
	size_t i = 0, n = 0;

	while (i < l.len && i < 4 && l.s[i] == ' ')
		i++;
	if (i == 4 || i == l.len || (l.s[i] != '`' && l.s[i] != '~'))
		return 0;
	*ret_char = l.s[i];
	while (i + n < l.len && l.s[i + n] == *ret_char)
		n++;
	if (n < 3)
		return 0;
	*ret_rest = (struct book_line){l.s + i + n, l.len - i - n};
	if (*ret_char == '`' && memchr(ret_rest->s, '`', ret_rest->len) != NULL)
		return 0;
	return n;
}

static bool is_blank(struct book_line l)
{
	for (size_t i = 0; i < l.len; i++)
		if (l.s[i] != ' ' && l.s[i] != '\t')
			return false;
	return true;
}

static char *read_block(const char **at, char fence_char, size_t fence_len)
{
	struct strbuf body = STRBUF(BODY_MAX);
	struct book_line l, rest;
	char c;

	while (playbook_parse_next_line(at, &l)) {
		if (fence(l, &c, &rest) >= fence_len && c == fence_char && is_blank(rest))
			break;
		strbuf_add(&body, l.s, l.len);
		strbuf_addc(&body, '\n');
	}
	return strbuf_take(&body);
}

static struct playbook_step *add_step(struct playbook *p)
{
	p->steps = mem_grow(p->steps, &p->cap, p->n + 1, sizeof *p->steps);
	p->steps[p->n] = (struct playbook_step){0};
	return &p->steps[p->n++];
}

/* The first line of a body, for a label. */
static char *first_line(const char *body)
{
	size_t n = strcspn(body, "\n");
	size_t cut = text_utf8_cut(body, n, 60);

	return str_printf("%.*s%s", (int)cut, body, cut < n || body[n + (body[n] == '\n')] != '\0' ? " …" : "");
}

static void shell_step(struct playbook_step *s, const char *word, const char *body)
{
	AUTO_STR line = first_line(body);
	AUTO_STR command = str_dup(body);
	size_t n = strlen(command);

	while (n > 0 && command[n - 1] == '\n')
		command[--n] = '\0';
	s->label = str_printf("%s: %s", word, line);
	s->tool = str_dup("run_terminal_cmd");
	s->arguments = json_object();
	json_put(s->arguments, "command", command);
}

static void file_step(struct playbook_step *s, const char *path, const char *body)
{
	s->label = str_printf("file %s", path);
	s->tool = str_dup("write_file");
	if (path[0] == '\0') {
		s->problem = str_dup("a file block needs a path: ```file PATH");
		return;
	}
	s->arguments = json_object();
	json_put(s->arguments, "path", path);
	json_put(s->arguments, "fileText", body);
}

static void tool_step(struct playbook_step *s, const char *name, const char *body)
{
	struct why why = {0};

	s->label = str_printf("tool %s", name);
	s->tool = str_dup(name);
	if (name[0] == '\0') {
		s->problem = str_dup("a tool block needs a name: ```tool NAME");
		return;
	}
	if (text_is_blank(body)) {
		s->arguments = json_object();
		return;
	}
	if (json_parse(body, strlen(body), &s->arguments, &why) != OK) {
		s->problem = str_printf("the arguments of tool %s are not JSON: %s", name, why.text);
	} else if (!json_is_object(s->arguments)) {
		json_drop(&s->arguments);
		s->problem = str_printf("the arguments of tool %s must be a JSON object", name);
	}
}

/* Its body is the prompt, and a playbook again: within a longer fence it may have blocks. */
static void subagent_step(struct playbook_step *s, const char *name, const char *body)
{
	s->label = str_printf("subagent %s", name);
	s->tool = str_dup("task");
	if (name[0] == '\0' || text_is_blank(body)) {
		s->problem = str_dup(name[0] == '\0' ? "a subagent block needs a name: ```subagent NAME"
						     : "a subagent block needs a prompt as its body");
		return;
	}
	s->arguments = json_object();
	json_put(s->arguments, "description", s->label);
	json_put(s->arguments, "prompt", body);
	json_put(s->arguments, "subagent_type", name);
}

/* "sh", "file PATH", "tool NAME", "subagent NAME", each with an optional last word "must". */
static void take_block(struct playbook *p, struct book_line info, const char *body)
{
	AUTO_STR raw = str_ndup(info.s, info.len);
	AUTO_STR text = text_trim(raw);
	AUTO_STR rest = NULL;
	struct playbook_step *s;
	size_t word = strcspn(text, " \t");
	bool must = false;

	rest = text_trim(text + word);
	if (strcmp(rest, "must") == 0 || text_has_suffix(rest, " must")) {
		must = true;
		rest[strlen(rest) - 4] = '\0';
		char *trimmed = text_trim(rest);

		str_free(&rest);
		rest = trimmed;
	}
	text[word] = '\0';
	if (strcmp(text, "sh") != 0 && strcmp(text, "bash") != 0 && strcmp(text, "file") != 0 &&
	    strcmp(text, "tool") != 0 && strcmp(text, "subagent") != 0)
		return;
	s = add_step(p);
	s->must = must;
	if (strcmp(text, "subagent") == 0)
		subagent_step(s, rest, body);
	else if (text[0] == 'f')
		file_step(s, rest, body);
	else if (text[0] == 't')
		tool_step(s, rest, body);
	else
		shell_step(s, text, body);
}

int playbook_parse(const char *prompt, struct playbook *ret)
{
	struct playbook p = {0};
	const char *at = prompt;
	struct book_line l, info;
	char c;

	while (playbook_parse_next_line(&at, &l)) {
		size_t n = fence(l, &c, &info);

		if (n == 0)
			continue;
		AUTO_STR body = read_block(&at, c, n);

		take_block(&p, info, body);
		if (p.n > PLAYBOOK_STEPS_MAX) {
			playbook_fini(&p);
			return ERR_TOO_LARGE;
		}
	}
	*ret = p;
	return OK;
}
