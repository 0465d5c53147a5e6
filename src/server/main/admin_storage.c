/* `bullpen admin storage check`: whether artifacts can be kept where the settings say. */
#include "base/mem.h"
#include "base/terminal.h"
#include "net/http_client.h"
#include "server/artifacts/storage.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"
#include "server/main/config.h"
#include <string.h>

static int check_s3(const json_t *settings)
{
	struct storage *s = NULL;
	struct why why = {0};
	AUTO_STR clean = NULL;
	AUTO_STR place = NULL;
	int rc = storage_s3_new(settings, "", &s, &why);

	if (rc != OK)
		return usage_error("%s", why.text);
	http_client_init();
	rc = s->kind->check(s, &why);
	place = s->kind->place(s);
	clean = terminal_clean(rc == OK ? place : why.text, TERMINAL_LINE);
	s->kind->free(&s);
	if (rc != OK) {
		fprintf(stderr, "error: %s\n", clean);
		return 1;
	}
	printf("ok: objects can be put, fetched, listed and deleted in %s\n", clean);
	return fflush(stdout) != 0 ? 1 : 0;
}

static int check(const char *config)
{
	struct config c;
	struct why why = {0};
	int status;

	config_init(&c);
	if (config_read(&c, config, &why) != OK || config_check(&c, &why) != OK)
		status = usage_error("%s", why.text);
	else if (c.s3 != NULL)
		status = check_s3(c.s3);
	else
		status = puts("ok: artifacts are in the data folder: the settings have no [s3]") < 0 ? 1 : 0;
	config_fini(&c);
	return status;
}

int admin_storage(int argc, char **argv)
{
	const char *config = NULL;
	const struct option_row rows[] = {{.name = "config",
					      .value = "FILE",
					      .text = &config,
					      .help = "the settings that bullpen serve uses (required)"},
	    {0}};
	const struct options o = {.usage = "bullpen admin storage check --config FILE",
	    .about =
		"Puts, fetches, lists and deletes an object where the settings have artifacts kept ([s3]), and says "
		"what is\nwrong; exit 1: something is.",
	    .rows = rows,
	    .help_word = true};
	struct option_words words;
	struct why why = {0};
	int rc = options_parse(&o, argc, argv, 1, &words, &why);

	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		return 0;
	}
	if (rc != OK)
		return usage_error("%s", why.text);
	if (words.n != 1 || strcmp(words.v[0], "check") != 0)
		return usage_error("usage: bullpen admin storage check --config FILE");
	if (config == NULL)
		return usage_error("--config FILE is required: the settings that bullpen serve uses");
	return check(config);
}
