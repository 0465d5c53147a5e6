/* base/artifact_path.h: what the path of an artifact may be. Worker and control plane go by the same rules: the worker
 * so that it can say which file is not uploaded and why, the control plane because it believes no worker. Thread: any.
 */
#pragma once
#include "base/errors.h"

#define ARTIFACT_FOLDER "artifacts"
#define ARTIFACT_PATH_MAX 512 /* bytes */

/* "artifacts/…": relative, UTF-8, at most ARTIFACT_PATH_MAX bytes, no empty, "." or ".." segment, no backslash, nothing
 * that a terminal obeys. ERR_INVALID with `why`, which does not repeat the path. */
int artifact_path_check(const char *path, struct why *why) MUST_USE;
