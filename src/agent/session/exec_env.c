#include "agent/session/exec.h"
#include "base/mem.h"
#include "base/text.h"
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* Never shown to a program: the worker's own credentials, and what would change how tools behave. */
static const char *const dropped[] = {"CURSOR_API_KEY", "CURSOR_AUTH_TOKEN", "CI", "PAGER", "GIT_PAGER", "TERM",
    "CURSOR_AGENT", "CURSOR_CONVERSATION_ID", "CURSOR_AGENT_CALL"};

#define MAX_SECRETS 256
static pthread_mutex_t secrets_lock = PTHREAD_MUTEX_INITIALIZER;
static char *secrets[MAX_SECRETS];
static size_t n_secrets;

static bool is_secret_locked(const char *value)
{
	for (size_t i = 0; i < n_secrets; i++)
		if (strcmp(secrets[i], value) == 0)
			return true;
	return false;
}

void exec_hide_secret(const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	pthread_mutex_lock(&secrets_lock);
	if (!is_secret_locked(value)) {
		/* A token that is renewed for ever must not fill the list: the oldest goes, it has expired. */
		if (n_secrets == MAX_SECRETS) {
			str_free(&secrets[0]);
			memmove(secrets, secrets + 1, (MAX_SECRETS - 1) * sizeof secrets[0]);
			n_secrets--;
		}
		secrets[n_secrets++] = str_dup(value);
	}
	pthread_mutex_unlock(&secrets_lock);
}

static bool is_secret(const char *value)
{
	bool yes;

	pthread_mutex_lock(&secrets_lock);
	yes = is_secret_locked(value);
	pthread_mutex_unlock(&secrets_lock);
	return yes;
}

static bool names(const char *entry, size_t len, const char *name)
{
	return strlen(name) == len && strncmp(entry, name, len) == 0;
}

static bool is_replaced(const char *entry, size_t name_len, const char *const *env)
{
	for (size_t i = 0; env != NULL && env[i] != NULL; i++)
		if (strcspn(env[i], "=") == name_len && strncmp(entry, env[i], name_len) == 0)
			return true;
	return false;
}

static bool is_passed_on(const char *entry, const char *const *env)
{
	size_t len = strcspn(entry, "=");

	if (entry[len] != '=' || is_replaced(entry, len, env) || is_secret(entry + len + 1))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(dropped); i++)
		if (names(entry, len, dropped[i]))
			return false;
	return true;
}

struct env_list {
	char **v;
	size_t n, cap;
};

static void env_add(struct env_list *l, char *entry)
{
	l->v = mem_grow(l->v, &l->cap, l->n + 2, sizeof *l->v);
	l->v[l->n++] = entry;
	l->v[l->n] = NULL;
}

static void add_of_worker(struct env_list *l, const struct exec_spec *spec)
{
	env_add(l, str_dup("PAGER=cat"));
	env_add(l, str_dup("GIT_PAGER=cat"));
	env_add(l, str_dup("TERM=dumb"));
	for (char **e = environ; e != NULL && *e != NULL; e++)
		if (is_passed_on(*e, spec->env) &&
		    !(spec->scratch_dir != NULL && text_has_prefix(*e, "CURSOR_AGENT_SCRATCH=")))
			env_add(l, str_dup(*e));
}

char **exec_env_new(const struct exec_spec *spec, const char *mark)
{
	struct env_list l = {0};

	env_add(&l, str_dup(mark));
	if (spec->agent_id != NULL)
		env_add(&l, str_printf("CURSOR_CONVERSATION_ID=%s", spec->agent_id));
	if (spec->scratch_dir != NULL)
		env_add(&l, str_printf("CURSOR_AGENT_SCRATCH=%s", spec->scratch_dir));
	env_add(&l, str_dup("CURSOR_AGENT=1"));
	if (!spec->service)
		add_of_worker(&l, spec);
	for (size_t i = 0; spec->env != NULL && spec->env[i] != NULL; i++)
		if (strchr(spec->env[i], '=') != NULL)
			env_add(&l, str_dup(spec->env[i]));
	return l.v;
}

void exec_env_free(char ***env)
{
	for (size_t i = 0; *env != NULL && (*env)[i] != NULL; i++)
		free((*env)[i]);
	free(*env);
	*env = NULL;
}
