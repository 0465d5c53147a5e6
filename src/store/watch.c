/* Whether what the store was opened on is still there. SQLite goes on writing into files that have no name any more, so
 * nobody would notice before the next start. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/store_priv.h"

void store_look(struct store *st)
{
	struct store_watch *w = store_watch_of(st);
	struct why why = {""};
	int rc = w->driver->still_there != NULL ? w->driver->still_there(w->place, &w->mark, &why) : OK;
	bool gone = atomic_load(&w->gone);

	if (rc != OK && !gone) {
		snprintf(w->reason, sizeof w->reason, "%s", why.text);
		/* The reason first: who sees the flag may read it, and it never changes again. */
		atomic_store(&w->gone, true);
		log_error("store.gone",
		    "path=%s reason=%s effect=\"nothing is kept any more, requests that write are "
		    "answered 503; put the folder in order and restart the server\"",
		    log_quote(w->place), log_quote(why.text));
	} else if (rc == OK && gone && !w->back) {
		w->back = true;
		log_warn("store.back", "path=%s effect=\"the folder is there again; restart the server to use it\"",
		    log_quote(w->place));
	}
}

bool store_is_gone(struct store *st, struct why *why)
{
	struct store_watch *w = store_watch_of(st);

	if (!atomic_load(&w->gone))
		return false;
	why_set(
	    why, ERR_IO, "the data folder of the server is not usable any more (%s): it must be restarted", w->reason);
	return true;
}
