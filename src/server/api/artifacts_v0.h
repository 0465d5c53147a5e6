/* api/artifacts_v0.h: what the older generation of the API says otherwise of artifacts. Thread: any. */
#pragma once
#include "server/api/agents.h"

#define V0_ARTIFACTS "/opt/cursor/artifacts/"

/* The path of the list for "artifacts/…", and back: NULL if it is not below V0_ARTIFACTS. malloc'ed. */
char *v0_artifact_path(const char *path);
char *v0_artifact_rel(const char *absolute);
/* Whether an agent of that age has no artifacts for the older API any more: after six calendar months. */
bool v0_artifacts_are_over(int64_t created_at_ms, int64_t now_ms);
