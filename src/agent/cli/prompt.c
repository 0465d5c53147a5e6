#include "agent/cli/prompt.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define PROMPT_MAX (1024 * 1024)
#define IMAGE_MAX ((size_t)15 * 1024 * 1024)

void prompt_options_init(struct prompt_options *o)
{
	o->images = (struct option_list){.v = o->image_files, .max = PROMPT_IMAGES_MAX};
	o->env = (struct option_list){.v = o->env_words, .max = PROMPT_ENV_MAX};
}

/* Windows programs begin a text file with a mark that is no part of the text. */
static const char *without_mark(const char *text)
{
	return text_has_prefix(text, "\xef\xbb\xbf") ? text + 3 : text;
}

static int read_text(const char *from, char **ret)
{
	struct strbuf b = STRBUF(PROMPT_MAX);
	char chunk[8192];
	size_t n;

	if (strcmp(from, "-") != 0) {
		*ret = str_dup(without_mark(from));
		return OK;
	}
	while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
		strbuf_add(&b, chunk, n);
	if (b.overflowed || text_is_blank(without_mark(strbuf_str(&b)))) {
		client_error(b.overflowed ? "the prompt on standard input is larger than 1 MiB"
					  : "there is no prompt on standard input");
		strbuf_fini(&b);
		return ERR_INVALID;
	}
	if (strlen(strbuf_str(&b)) != b.len || !text_is_utf8(strbuf_str(&b), b.len)) {
		client_error("the prompt on standard input is not UTF-8 text: convert it (a file of Windows: iconv -f "
			     "UTF-16 -t UTF-8)");
		strbuf_fini(&b);
		return ERR_INVALID;
	}
	*ret = str_dup(without_mark(strbuf_str(&b)));
	strbuf_fini(&b);
	return OK;
}

/* By its first bytes; the server checks it in earnest. */
static const char *image_type(const char *b, size_t len)
{
	if (len > 8 && memcmp(b, "\x89PNG", 4) == 0)
		return "image/png";
	if (len > 3 && memcmp(b, "\xff\xd8\xff", 3) == 0)
		return "image/jpeg";
	if (len > 6 && memcmp(b, "GIF8", 4) == 0)
		return "image/gif";
	return len > 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0 ? "image/webp" : NULL;
}

static int add_image(json_t *list, const char *path)
{
	AUTO_STR bytes = NULL;
	AUTO_STR data = NULL;
	const char *type;
	size_t len = 0;
	int rc = text_read_file(path, IMAGE_MAX, &bytes, &len);

	if (rc == ERR_TOO_LARGE)
		client_error("the image %s is larger than 15 MiB", path);
	else if (rc != OK)
		client_error("cannot read the image %s: %s", path, err_text(rc));
	if (rc != OK)
		return rc;
	type = image_type(bytes, len);
	if (type == NULL) {
		client_error("%s is no PNG, JPEG, GIF or WebP image", path);
		return ERR_INVALID;
	}
	data = base64_encode(bytes, len);
	json_array_append_new(list, json_pack("{s:s, s:s}", "mimeType", type, "data", data));
	return OK;
}

static int add_images(const struct prompt_options *o, json_t *prompt)
{
	AUTO_JSON list = json_array();
	int rc = OK;

	if (o->images.n > PROMPT_IMAGES_MAX) {
		client_error("at most %d --image are possible", PROMPT_IMAGES_MAX);
		return ERR_INVALID;
	}
	for (size_t i = 0; i < o->images.n && rc == OK; i++)
		rc = add_image(list, o->image_files[i]);
	if (rc == OK && o->images.n > 0)
		json_object_set(prompt, "images", list);
	return rc;
}

/* A name alone takes the value from our own environment, so that a secret need not stand in the command line. */
static int add_env(const struct prompt_options *o, json_t *body)
{
	json_t *env = json_object();

	if (o->env.n == 0) {
		json_decref(env);
		return OK;
	}
	json_put_new(body, "envVars", env);
	if (o->env.n > PROMPT_ENV_MAX) {
		client_error("at most %d --env are possible", PROMPT_ENV_MAX);
		return ERR_INVALID;
	}
	for (size_t i = 0; i < o->env.n; i++) {
		const char *word = o->env_words[i], *equals = strchr(word, '=');
		AUTO_STR name = equals != NULL ? str_ndup(word, (size_t)(equals - word)) : str_dup(word);
		const char *value = equals != NULL ? equals + 1 : getenv(name);

		if (name[0] == '\0') {
			client_error("--env must be NAME=VALUE or NAME");
			return ERR_INVALID;
		}
		if (value == NULL) {
			client_error("--env %s: this shell has no such variable; give --env NAME=VALUE", name);
			return ERR_INVALID;
		}
		json_put_new(env, name, json_lossy(value, strlen(value)));
	}
	return OK;
}

#define MCP_FILE_MAX ((size_t)1024 * 1024)

/* {"mcpServers": {name: {…}}}, the form of .cursor/mcp.json, becomes the API's list; what is wrong in an entry the
 * server says. */
static int add_mcp(const struct prompt_options *o, json_t *body)
{
	AUTO_STR text = NULL;
	AUTO_JSON file = NULL;
	json_t *list = json_array(), *servers, *entry;
	const char *name;
	struct why why = {0};
	size_t len = 0;
	int rc;

	if (o->mcp_file == NULL) {
		json_decref(list);
		return OK;
	}
	json_put_new(body, "mcpServers", list);
	rc = text_read_file(o->mcp_file, MCP_FILE_MAX, &text, &len);
	if (rc != OK) {
		client_error("cannot read %s: %s", o->mcp_file, err_text(rc));
		return rc;
	}
	rc = json_parse_strict(text, len, &file, &why);
	servers = json_object_get(file, "mcpServers");
	if (rc == OK && !json_is_object(servers))
		rc = why_set(
		    &why, ERR_INVALID, "it must be an object with the member mcpServers, an object of servers by name");
	if (rc != OK) {
		client_error("%s: %s", o->mcp_file, why.text);
		return rc;
	}
	json_object_foreach(servers, name, entry)
	{
		if (!json_is_object(entry)) {
			client_error("%s: mcpServers.%s must be an object", o->mcp_file, name);
			return ERR_INVALID;
		}
		json_put(entry, "name", name);
		json_array_append(list, entry);
	}
	return OK;
}

int prompt_body(const struct prompt_options *o, json_t **ret, int *ret_status)
{
	AUTO_STR text = NULL;
	AUTO_JSON body = json_object();
	json_t *prompt = json_object();

	json_put_new(body, "prompt", prompt);
	*ret_status = EXIT_USAGE;
	if (o->mode != NULL && strcmp(o->mode, "agent") != 0 && strcmp(o->mode, "plan") != 0) {
		client_error("--mode must be agent or plan, not %.40s", o->mode);
		return ERR_INVALID;
	}
	if (o->plan && o->mode != NULL && strcmp(o->mode, "plan") != 0) {
		client_error("--plan and --mode %s exclude each other", o->mode);
		return ERR_INVALID;
	}
	if (add_env(o, body) != OK || add_mcp(o, body) != OK)
		return ERR_INVALID;
	if (read_text(o->text, &text) != OK || add_images(o, prompt) != OK)
		return ERR_INVALID;
	json_put(prompt, "text", text);
	json_put(body, "mode", o->plan ? "plan" : o->mode);
	if (o->model != NULL)
		json_put_new(body, "model", json_pack("{s:s}", "id", o->model));
	*ret = TAKE(body);
	return OK;
}
