/* The server's settings: a TOML file, checked, its models made. What is refused is refused in words that name the
 * place; what is taken is complete and can be found by its names. */
#include "base/mem.h"
#include "base/text.h"
#include "folder.h"
#include "server/main/config.h"
#include "server/models/models.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *write_file(const uint8_t *data, size_t size)
{
	static char path[PATH_MAX + 16];
	int fd;

	snprintf(path, sizeof path, "%s/a.toml", fuzz_folder());
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ENSURE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
	return path;
}

static void check_model(const struct model *m)
{
	AUTO_JSON params = NULL;
	struct why why;
	size_t i;
	json_t *alias;

	ENSURE(m->id[0] != '\0' && text_is_utf8(m->id, strlen(m->id)) && model_find(m->id) == m);
	json_array_foreach(m->aliases, i, alias) ENSURE(model_find(json_string_value(alias)) != NULL);
	ENSURE(json_array_size(m->variants) > 0 && m->context_window >= 0);
	ENSURE(model_params(m, NULL, &params, &why) == OK);
	ENSURE(json_array_size(params) == json_array_size(m->parameters));
}

static void check_models(void)
{
	size_t n;
	const struct model *all = models_all(&n);

	ENSURE(n > 0 && all[0].is_default && model_find(NULL) == &all[0] && model_find("default") == &all[0]);
	for (size_t i = 0; i < n; i++) {
		ENSURE(all[i].is_default == (i == 0));
		check_model(&all[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config c;
	struct why why = {""};
	int rc;

	/* No file but the one that is written here. */
	if (memmem(data, size, "_file", 5) != NULL)
		return 0;
	config_init(&c);
	rc = config_read(&c, write_file(data, size), &why);
	if (rc == OK)
		rc = config_check(&c, &why);
	if (rc == OK)
		rc = models_configure(c.models, &why);
	if (rc == OK)
		check_models();
	else
		ENSURE(why.text[0] != '\0' && text_is_utf8(why.text, strlen(why.text)));
	models_free();
	config_fini(&c);
	return 0;
}
