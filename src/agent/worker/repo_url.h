#pragma once
#include "base/repo_url.h"
