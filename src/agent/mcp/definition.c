#include "agent/mcp/definition.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/redact.h"
#include "base/seal.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

#define TEXT_MAX ((size_t)64 * 1024)
#define COMMAND_LINE_MAX ((size_t)16 * 1024)
#define ARGS_MAX 64
#define ENV_MAX 128
#define ENV_FILE_MAX ((size_t)256 * 1024)

/* Of the worker's environment: what programs need to find their way. */
static const char *const inherited[] = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"};
static const char *const never[] = {"CURSOR_API_KEY", "CURSOR_AUTH_TOKEN"};

static bool is_among(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

static bool is_inherited(const char *name)
{
	return is_among(name, inherited, ARRAY_LEN(inherited)) || text_has_prefix(name, "LC_") ||
	       text_has_prefix(name, "XDG_");
}

static void fault(struct mcp_definition *d, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void fault(struct mcp_definition *d, const char *fmt, ...)
{
	va_list ap;

	if (d->fault != NULL)
		return;
	va_start(ap, fmt);
	d->fault = str_vprintf(fmt, ap);
	va_end(ap);
}

/* What a ${…} stands for; NULL: it is none. Unset variables are empty. */
static const char *meaning(const struct mcp_scene *scene, const char *word)
{
	const char *slash = strrchr(scene->workspace, '/'), *v;

	if (strcmp(word, "workspaceFolder") == 0)
		return scene->workspace;
	if (strcmp(word, "workspaceFolderBasename") == 0)
		return slash != NULL ? slash + 1 : scene->workspace;
	if (strcmp(word, "pathSeparator") == 0 || strcmp(word, "/") == 0)
		return "/";
	if (strcmp(word, "userHome") == 0)
		return getenv("HOME") != NULL ? getenv("HOME") : "";
	if (!text_has_prefix(word, "env:"))
		return NULL;
	word += strlen("env:");
	if (is_among(word, never, ARRAY_LEN(never)))
		return "";
	v = json_string_value(json_object_get(scene->variables, word));
	if (v == NULL)
		v = getenv(word);
	return v != NULL ? v : "";
}

/* malloc'ed. */
static char *substitute(struct mcp_definition *d, const struct mcp_scene *scene, const char *text)
{
	struct strbuf b = STRBUF(TEXT_MAX);

	while (*text != '\0') {
		const char *end = text[0] == '$' && text[1] == '{' ? strchr(text, '}') : NULL, *v = NULL;

		if (end != NULL) {
			AUTO_STR word = str_ndup(text + 2, (size_t)(end - text - 2));
			v = meaning(scene, word);
		}
		if (v != NULL) {
			strbuf_adds(&b, v);
			text = end + 1;
		} else {
			strbuf_addc(&b, *text++);
		}
	}
	if (b.overflowed)
		fault(d, "a text of it is longer than 64 KiB");
	return strbuf_take(&b);
}

struct list {
	char **v;
	size_t n, cap;
};

static void list_add(struct list *l, char *text)
{
	l->v = mem_grow(l->v, &l->cap, l->n + 2, sizeof *l->v);
	l->v[l->n++] = text;
	l->v[l->n] = NULL;
}

static bool is_env_name(const char *name)
{
	return name[0] != '\0' && strchr(name, '=') == NULL;
}

/* A later one takes the place of an earlier one. */
static void put_env(struct mcp_definition *d, json_t *env, const char *name, const char *value)
{
	if (!is_env_name(name))
		fault(d, "'%.60s' is no name of a variable", name);
	else if (text_has_prefix(name, "LD_") || text_has_prefix(name, "DYLD_"))
		fault(d, "the variable %.60s is not allowed: it changes what a program loads", name);
	else if (!is_among(name, never, ARRAY_LEN(never)) && !text_has_prefix(name, "CURSOR_AGENT"))
		json_put(env, name, value);
}

/* KEY=VALUE lines, # comments, quotes around a value. */
static void read_env_file(struct mcp_definition *d, const struct mcp_scene *scene, const char *path, json_t *env)
{
	AUTO_STR whole = path[0] == '/' ? str_dup(path) : str_printf("%s/%s", scene->workspace, path);
	AUTO_STR text = NULL;
	char *at, *line;
	size_t len = 0;
	int rc = text_read_file(whole, ENV_FILE_MAX, &text, &len);

	if (rc != OK) {
		fault(d, "its envFile '%.200s' cannot be read: %s", path, err_text(rc));
		return;
	}
	at = text;
	while ((line = strsep(&at, "\n")) != NULL) {
		AUTO_STR trimmed = text_trim(line);
		char *value = strchr(trimmed, '=');
		size_t n;

		if (trimmed[0] == '#' || value == NULL)
			continue;
		*value++ = '\0';
		n = strlen(value);
		if (n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n - 1] == value[0]) {
			value[n - 1] = '\0';
			value++;
		}
		put_env(d, env, text_has_prefix(trimmed, "export ") ? trimmed + strlen("export ") : trimmed, value);
	}
}

/* What is not a text is told as a fault elsewhere. */
static char *command_line(const json_t *entry)
{
	const json_t *args = json_object_get(entry, "args"), *one;
	const char *command = json_string_value(json_object_get(entry, "command"));
	struct strbuf b = STRBUF(COMMAND_LINE_MAX);
	size_t i;

	strbuf_adds(&b, command != NULL ? command : "");
	json_array_foreach((json_t *)args, i, one)
	{
		if (json_is_string(one))
			strbuf_addf(&b, " %s", json_string_value(one));
	}
	return strbuf_take(&b);
}

static json_t *written(const json_t *entry)
{
	json_t *o = json_object();

	if (json_is_string(json_object_get(entry, "command")))
		json_object_set(o, "command", json_object_get(entry, "command"));
	if (json_is_array(json_object_get(entry, "args")))
		json_put_new(o, "args", json_deep_copy(json_object_get(entry, "args")));
	return o;
}

static void read_argv(struct mcp_definition *d, const json_t *entry, const struct mcp_scene *scene)
{
	const json_t *args = json_object_get(entry, "args"), *one;
	const char *command = json_string_value(json_object_get(entry, "command"));
	struct list l = {0};
	size_t i;

	if (command == NULL || command[0] == '\0')
		fault(d, "it has no 'command'");
	if (args != NULL && !json_is_array(args))
		fault(d, "its 'args' must be a list of texts");
	if (json_array_size(args) > ARGS_MAX)
		fault(d, "it has more than %d arguments", ARGS_MAX);
	list_add(&l, substitute(d, scene, command != NULL ? command : ""));
	json_array_foreach((json_t *)args, i, one)
	{
		if (!json_is_string(one))
			fault(d, "its 'args' must be a list of texts");
		else if (i < ARGS_MAX)
			list_add(&l, substitute(d, scene, json_string_value(one)));
	}
	d->argv = l.v;
}

/* What it gets of its own, in `env`. */
static void read_own_env(
    struct mcp_definition *d, const json_t *entry, bool of_file, const struct mcp_scene *scene, json_t *env)
{
	const json_t *own = json_object_get(entry, "env"), *value;
	const char *file = json_string_value(json_object_get(entry, "envFile")), *name;

	if (file != NULL && of_file) {
		AUTO_STR path = substitute(d, scene, file);
		read_env_file(d, scene, path, env);
	}
	if (own != NULL && !json_is_object(own))
		fault(d, "its 'env' must be an object of texts");
	if (json_object_size(own) > ENV_MAX)
		fault(d, "it has more than %d variables", ENV_MAX);
	json_object_foreach((json_t *)own, name, value)
	{
		AUTO_STR text = NULL;

		if (!json_is_string(value)) {
			fault(d, "its variable %.60s must be a text", name);
			continue;
		}
		text = substitute(d, scene, json_string_value(value));
		put_env(d, env, name, text);
	}
}

static void make_env(struct mcp_definition *d, const json_t *own)
{
	struct list l = {0};
	const char *name;
	json_t *value;

	for (char **e = environ; e != NULL && *e != NULL; e++) {
		AUTO_STR word = str_ndup(*e, strcspn(*e, "="));

		if (is_inherited(word) && json_object_get(own, word) == NULL)
			list_add(&l, str_dup(*e));
	}
	json_object_foreach((json_t *)own, name, value)
	    list_add(&l, str_printf("%s=%s", name, json_string_value(value)));
	if (l.v == NULL)
		list_add(&l, str_dup("LANG=C.UTF-8"));
	d->env = l.v;
}

static void read_protocol(struct mcp_definition *d, const json_t *entry)
{
	const json_t *word = json_object_get(entry, "protocol");

	if (word != NULL && (!json_is_string(word) || !mcp_protocol_read(json_string_value(word), &d->protocol)))
		fault(d, "its 'protocol' must be auto, legacy or modern");
}

static void make_identity(struct mcp_definition *d)
{
	AUTO_JSON all = json_array();
	char hex[SHA256_HEX_LEN];
	char *text;

	for (size_t i = 0; d->argv[i] != NULL; i++)
		json_array_append_new(all, json_lossy(d->argv[i], strlen(d->argv[i])));
	json_array_append_new(all, json_null());
	for (size_t i = 0; d->env[i] != NULL; i++)
		json_array_append_new(all, json_lossy(d->env[i], strlen(d->env[i])));
	json_array_append_new(all, json_integer(d->protocol));
	text = json_text(all);
	sha256_hex(text, strlen(text), hex);
	str_wipe(&text);
	d->identity = str_dup(hex);
}

void mcp_definition_read(
    const json_t *entry, const char *name, bool of_file, const struct mcp_scene *scene, struct mcp_definition *ret)
{
	const char *own = json_string_value(json_object_get(entry, "name"));
	AUTO_JSON env = json_object();

	*ret = (struct mcp_definition){.name = text_line(name != NULL ? name : own, 128)};
	if (ret->name[0] == '\0')
		str_set(&ret->name, "unnamed");
	ret->command_line = command_line(entry);
	ret->written = written(entry);
	read_argv(ret, entry, scene);
	read_protocol(ret, entry);
	read_own_env(ret, entry, of_file, scene, env);
	make_env(ret, env);
	make_identity(ret);
	ret->redactor = redactor_new(env);
}

static void list_wipe(char ***list)
{
	for (size_t i = 0; *list != NULL && (*list)[i] != NULL; i++)
		str_wipe(&(*list)[i]);
	free(*list);
	*list = NULL;
}

void mcp_definition_fini(struct mcp_definition *d)
{
	str_free(&d->name);
	str_wipe(&d->command_line);
	json_drop(&d->written);
	list_wipe(&d->argv);
	list_wipe(&d->env);
	str_free(&d->identity);
	str_free(&d->fault);
	redactor_free(&d->redactor);
}
