/* bullpen: the control plane. */
#include "base/id.h"
#include "server/main/options.h"
#include <stdarg.h>
#include <string.h>

static const char usage[] =
    "usage: bullpen serve [--config FILE] [--listen ADDRESS:PORT] [--data DIR]\n"
    "       bullpen admin key create --data DIR --type user|service_account --name NAME [--email ADDRESS]\n"
    "       bullpen admin key list --data DIR\n"
    "       bullpen admin key revoke --data DIR ID|KEY\n"
    "       bullpen --version | --help\n";

int usage_error(const char *fmt, ...)
{
	va_list ap;

	fputs("error: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return 2;
}

static const char *value_of(const char *word, const char *flag, int *i, int argc, char **argv)
{
	size_t n = strlen(flag);

	if (strncmp(word, flag, n) != 0 || (word[n] != '\0' && word[n] != '='))
		return NULL;
	if (word[n] == '=')
		return word + n + 1;
	return *i + 1 < argc ? argv[++*i] : "";
}

int options_parse(int argc, char **argv, const struct option_spec *specs, const char **words, size_t max_words,
    size_t *ret_words, struct why *why)
{
	*ret_words = 0;
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i], *value = NULL;
		size_t s = 0;

		if (word[0] != '-') {
			if (*ret_words == max_words)
				return why_set(why, ERR_INVALID, "unexpected argument '%s'", word);
			words[(*ret_words)++] = word;
			continue;
		}
		for (; specs[s].flag != NULL; s++)
			if ((value = value_of(word, specs[s].flag, &i, argc, argv)) != NULL)
				break;
		if (value == NULL)
			return why_set(why, ERR_INVALID, "unknown option '%s'", word);
		if (value[0] == '\0')
			return why_set(why, ERR_INVALID, "option %s needs a value", specs[s].flag);
		*specs[s].value = value;
	}
	return OK;
}

int main(int argc, char **argv)
{
	id_init();
	if (argc >= 2 && strcmp(argv[1], "serve") == 0)
		return serve_main(argc - 2, argv + 2);
	if (argc >= 2 && strcmp(argv[1], "admin") == 0)
		return admin_main(argc - 2, argv + 2);
	if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0)) {
		puts("bullpen " BULLPEN_VERSION);
		return 0;
	}
	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (argc >= 2)
		return usage_error("unknown command '%s': see bullpen --help", argv[1]);
	fputs(usage, stderr);
	return 2;
}
