#include "link/call_kind.h"

const char *call_kind_name(call_kind kind)
{
	/* No default: a kind without a name here does not compile. */
	switch (kind) {
	case CALL_TOOL:
		return "tool";
	case CALL_OPEN_SESSION:
		return "open";
	case CALL_PUBLISH:
		return "publish";
	case CALL_CLOSE_SESSION:
		return "close";
	case BULLPEN__WORKER__V1__CALL_KIND__CALL_KIND_UNSPECIFIED:
	case _BULLPEN__WORKER__V1__CALL_KIND_IS_INT_SIZE:
		break;
	}
	return "unknown";
}
