/* base/options.h: the command lines of both programs: one table a command says what there is, where it goes, and what
 * --help prints. Reading is getopt_long's; abbreviations of names are not accepted.
 *
 * Thread: the main one, before others start (getopt keeps state). Texts that come back are argv's. */
#pragma once
#include "base/errors.h"

/* All values of an option that may be repeated. n counts on past max, so that the caller can complain. */
struct option_list {
	const char **v;
	size_t n, max;
};

/* One option. It goes to each of text, list and given that is not NULL. */
struct option_row {
	const char *name; /* "listen", without dashes */
	const char *value; /* "ADDRESS:PORT", what the help calls the value; NULL: it takes none */
	const char *help; /* lines are separated by '\n' */
	const char **text; /* the value; the last one wins */
	struct option_list *list;
	bool *given; /* set to true */
	const char *of; /* the command that has it, for the help of several commands with one table; NULL: all */
	char letter; /* 'e' for -e; 0: none */
	bool optional; /* the value may be left out; then text stays as it is */
	/* Of an optional value in a word of its own: whether that word is one. NULL: any that does not begin with '-'.
	 */
	bool (*is_value)(const char *word);
};

struct options {
	const char *usage; /* "bullpen serve [options]"; lines are separated by '\n' */
	const char *about; /* may be NULL */
	const struct option_row *rows; /* the last has name NULL; --help is added. NULL: none */
	const struct option_row *common; /* more rows, of several commands; NULL: none */
	const char *footer; /* at the end of the help; may be NULL */
	const char *command; /* for rows[].of */
	/* A separate word that begins with '-' is not a value ("-" is). For programs that people start by scripts: a
	 * forgotten value is noticed. */
	bool values_without_dash;
	bool help_word; /* a word `help` before "--" asks for the help, as --help does */
	bool stop_at_word; /* reading ends before the first word that is no option: what follows is a command's */
	/* A word, while there was none, that is not the value of an option whose value may be left out. NULL: none is.
	 */
	bool (*is_command)(const char *word);
};

#define OPTION_WORDS_MAX 4

/* Words that are no options. */
struct option_words {
	const char *v[OPTION_WORDS_MAX];
	size_t n;
	int end; /* stop_at_word: index in argv of the first word, or argc */
};

/* Reads argv[1..] ("--name value", "--name=value", "-x value", "--" ends the options). At most max_words words. OK;
 * ERR_EMPTY: --help was asked for, and nothing is wrong so far; ERR_INVALID with a sentence. */
int options_parse(const struct options *o, int argc, char **argv, size_t max_words, struct option_words *ret,
    struct why *why) MUST_USE;
/* Usage, about, every option, footer. */
void options_help(const struct options *o, FILE *to);
