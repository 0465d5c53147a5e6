/* runs/todos.h: the list of what a conversation has to do, as its model keeps it with the tool `todo_write`. It is the
 * result of the last such call, so it needs no place of its own and survives what calls survive. Thread: any. */
#pragma once
#include "base/json.h"
#include "store/store.h"

#define TODO_TOOL "todo_write"
#define TODOS_MAX 200

/* [{"id", "content", "status"}], [] if there is none. New reference. */
int todos_load(struct tx *tx, const char *loop_id, json_t **ret) MUST_USE;
/* What of them is not done, as lines for the model; malloc'ed, NULL if that is nothing. */
char *todos_open_text(const json_t *todos);
