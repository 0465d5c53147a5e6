/* What git says, for people: the line that decides, what to do about it, and nothing that a terminal would obey. */
#include "agent/session/git.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/terminal.h"
#include "base/text.h"
#include <string.h>
#include <strings.h>

/* The first that occurs counts. `machine`: trying on another machine may help. */
static const struct known {
	const char *part;
	bool machine;
	const char *advice;
} known[] = {
    {"dubious ownership", true, NULL}, /* git gives the command itself */
    {"Permission denied (", true, "the worker's ssh key was refused: give the remote its public key"},
    {"Host key verification failed", true, "the worker does not know the host's key: add it to known_hosts"},
    {"REMOTE HOST IDENTIFICATION HAS CHANGED", true, "compare the host's key, then mend known_hosts"},
    {"could not read Username", true, "the remote wants a login: give the worker a credential helper or a key"},
    {"could not read Password", true, "the remote wants a password: give the worker a credential helper or a key"},
    {"Authentication failed", true, "the remote refused the worker's credentials"},
    {"terminal prompts disabled", true, "the remote wants a login: give the worker a credential helper or a key"},
    {"Could not resolve host", true, "look at the worker's name service and proxy"},
    {"Could not resolve proxy", true, "look at the worker's proxy settings"},
    {"Connection refused", true, NULL},
    {"Connection timed out", true, NULL},
    {"Connection reset", true, NULL},
    {"Failed to connect to", true, NULL},
    {"Couldn't connect to server", true, NULL},
    {"SSL certificate problem", true, "the worker does not trust the remote's certificate"},
    {"server certificate verification failed", true, "the worker does not trust the remote's certificate"},
    {"The requested URL returned error: 5", true, NULL},
    {"Repository not found", true, "it does not exist, or the worker may not read it"},
    {"repository not found", true, "it does not exist, or the worker may not read it"},
    {"does not appear to be a git repository", true, "the remote of the worker's clone is not there"},
    {"Could not read from remote repository", true, NULL},
    {"early EOF", true, NULL},
    {"No space left on device", true, NULL},
    {"Disk quota exceeded", true, NULL},
    {"protected branch", false, "the remote protects this branch: let the worker's account push there"},
    {"pre-receive hook declined", false, "a rule of the remote refused the push"},
};

static const struct known *find_known(const char *err)
{
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strstr(err, known[i].part) != NULL)
			return &known[i];
	return NULL;
}

bool git_is_machines_fault(const char *err)
{
	const struct known *k = find_known(err);

	return k != NULL && k->machine;
}

/* Lines that matter, most telling first: a refused ref, what the remote said, git's own verdict, the last one. */
struct telling {
	char *refused, *remote, *verdict, *last;
};

/* Follows the line that says why. */
static bool says_nothing(const char *line)
{
	static const char *const empty[] = {"hint:", "Please make sure you have the correct access rights",
	    "and the repository exists.", "To add an exception for this directory",
	    "error: failed to push some refs to", "fatal: Could not read from remote repository",
	    "fatal: the remote end hung up unexpectedly", "Warning: Permanently added", "Aborting"};

	for (size_t i = 0; i < ARRAY_LEN(empty); i++)
		if (text_has_prefix(line, empty[i]))
			return true;
	return line[0] == '\0';
}

static void look_at(struct telling *t, const char *line)
{
	AUTO_STR text = text_trim(line);

	if (says_nothing(text)) {
		/* Better than no word at all. */
		if (t->last == NULL && (text_has_prefix(text, "fatal: ") || text_has_prefix(text, "error: ")))
			str_set(&t->last, text + 7);
		return;
	}
	if (text_has_prefix(text, "! ["))
		str_set(&t->refused, text + 2);
	else if (text_has_prefix(text, "remote:") && !text_is_blank(text + 7))
		str_set(&t->remote, text);
	else if (text_has_prefix(text, "fatal: ") || text_has_prefix(text, "error: "))
		str_set(&t->verdict, text + 7);
	str_set(&t->last, text);
}

/* For a terminal, without credentials. */
static char *clean(const char *s)
{
	AUTO_STR text = terminal_clean(s, TERMINAL_TEXT);

	return repo_url_redact(text);
}

char *git_reason(const char *err)
{
	struct telling t = {0};
	const struct known *k = find_known(err);
	AUTO_STR text = clean(err);
	char *best;

	for (const char *at = text; *at != '\0';) {
		size_t n = strcspn(at, "\n");
		AUTO_STR line = str_ndup(at, n);

		look_at(&t, line);
		at += n + (at[n] == '\n');
	}
	if (t.refused != NULL)
		best = str_printf("%s%s%s", t.refused, t.remote != NULL ? "; " : "", t.remote != NULL ? t.remote : "");
	else if (k != NULL && t.last != NULL && strstr(t.last, k->part) != NULL)
		best = str_dup(t.last);
	else
		best = str_dup(t.verdict != NULL ? t.verdict : t.last != NULL ? t.last : "");
	if (k != NULL && k->advice != NULL) {
		char *with = best[0] != '\0' ? str_printf("%s (%s)", best, k->advice) : str_dup(k->advice);

		free(best);
		best = with;
	}
	str_free(&t.refused);
	str_free(&t.remote);
	str_free(&t.verdict);
	str_free(&t.last);
	return best;
}

char *git_said(const char *err)
{
	AUTO_STR text = clean(err);
	AUTO_STR trimmed = text_trim(text);
	size_t len = strlen(trimmed);
	const char *from = trimmed;

	if (len > GIT_SAID_MAX) {
		from += len - GIT_SAID_MAX;
		while ((*from & 0xc0) == 0x80) /* not in the middle of a character */
			from++;
	}
	return str_dup(from);
}
