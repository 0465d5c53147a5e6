/* bullpen: the control plane. */
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "server/main/commands.h"
#include <stdarg.h>
#include <string.h>

static bool show_version;
static const struct option_row rows[] = {
    {.name = "version", .letter = 'v', .given = &show_version, .help = "print the version"}, {0}};
static const struct options bullpen = {.usage = "bullpen serve [--config FILE] [--listen ADDRESS:PORT] [--data DIR]\n"
						"bullpen admin key create|list|revoke --data DIR …",
    .about = "The control plane. Each command has --help.",
    .rows = rows,
    .stop_at_word = true};

int usage_error(const char *fmt, ...)
{
	AUTO_STR text = NULL;
	AUTO_STR clean = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = str_vprintf(fmt, ap);
	va_end(ap);
	clean = terminal_clean(text, TERMINAL_LINE);
	fprintf(stderr, "error: %s\n", clean);
	return 2;
}

int main(int argc, char **argv)
{
	struct option_words words;
	struct why why = {0};
	static char help[] = "help";
	int rc, at;

	log_hold_standard_files();
	rc = options_parse(&bullpen, argc, argv, 0, &words, &why);
	at = words.end;
	id_init();
	if (rc == ERR_INVALID)
		return usage_error("%s: see bullpen --help", why.text);
	if (rc == ERR_EMPTY) {
		options_help(&bullpen, stdout);
		return 0;
	}
	if (show_version) {
		puts("bullpen " BULLPEN_VERSION);
		return 0;
	}
	if (at >= argc) {
		options_help(&bullpen, stderr);
		return 2;
	}
	/* `bullpen help admin key` is `bullpen admin help key`. */
	if (strcmp(argv[at], "help") == 0) {
		if (at + 1 >= argc || argv[at + 1][0] == '-') {
			options_help(&bullpen, stdout);
			return 0;
		}
		argv[at] = argv[at + 1];
		argv[at + 1] = help;
	}
	if (strcmp(argv[at], "serve") == 0)
		return serve_main(argc - at, argv + at);
	if (strcmp(argv[at], "admin") == 0)
		return admin_main(argc - at, argv + at);
	return usage_error("unknown command '%.100s': see bullpen --help", argv[at]);
}
