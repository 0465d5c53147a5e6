/* The folders of a session that has ended are removed on a thread of their own: neither the end of a run nor the next
 * session waits for thousands of files. They lie under a name then that no session uses. At most one removal is under
 * way, and none when the session object ends; a worker that is killed leaves them to the next one. */
#include "agent/session/session_priv.h"
#include "base/folder.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *remover_main(void *path)
{
	tree_delete(path);
	free(path);
	return NULL;
}

char *session_gone_dir(const struct session_config *cfg)
{
	return str_printf("%s/.gone", cfg->state_dir);
}

void session_await_removal(struct session *s)
{
	if (s->removing)
		pthread_join(s->remover, NULL);
	s->removing = false;
}

void session_end_removals(struct session *s)
{
	AUTO_STR gone = session_gone_dir(&s->cfg);

	session_await_removal(s);
	IGNORE(rmdir(gone)); /* empty, or there is none */
}

bool session_set_aside(const struct session_config *cfg, const char *agent_id, const char *agent_dir)
{
	AUTO_STR lost = str_printf("%s/.lost", cfg->state_dir);
	AUTO_STR to = NULL;
	char hex[17];

	id_hex(hex, 8);
	to = str_printf("%s/%s-%s", lost, agent_id, hex);
	if (folder_make(lost, NULL) != OK || rename(agent_dir, to) != 0) {
		log_error("worker.work.left.failed", "agent=%s folder=%s reason=%s", agent_id, log_quote(agent_dir),
		    log_quote(strerror(errno)));
		return false;
	}
	log_error(
	    "worker.work.left", "agent=%s folder=%s hint=\"remove it when nobody needs it\"", agent_id, log_quote(to));
	return true;
}

void session_remove_folder(struct session *s)
{
	AUTO_STR gone = session_gone_dir(&s->cfg);
	AUTO_STR to = NULL;
	char hex[17];

	if (s->agent_dir == NULL)
		return;
	session_await_removal(s);
	id_hex(hex, 8);
	to = str_printf("%s/%s", gone, hex);
	if (access(s->agent_dir, F_OK) != 0)
		return;
	if (folder_make(gone, NULL) != OK || rename(s->agent_dir, to) != 0) {
		tree_delete(s->agent_dir);
		return;
	}
	s->removing = pthread_create(&s->remover, NULL, remover_main, to) == 0;
	if (s->removing)
		to = NULL; /* the thread's */
	else
		tree_delete(to);
}
