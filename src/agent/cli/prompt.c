#include "agent/cli/prompt.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define PROMPT_MAX (1024 * 1024)
#define IMAGE_MAX ((size_t)15 * 1024 * 1024)

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
	if (read_text(o->text, &text) != OK || add_images(o, prompt) != OK)
		return ERR_INVALID;
	json_put(prompt, "text", text);
	json_put(body, "mode", o->mode);
	if (o->model != NULL)
		json_put_new(body, "model", json_pack("{s:s}", "id", o->model));
	*ret = TAKE(body);
	return OK;
}
