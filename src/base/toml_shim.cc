#define TOML_HEADER_ONLY 0
#include "base/toml_shim.h"
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string_view>
#include <toml++/toml.h>

extern "C" char *bullpen_toml_to_json(
    const char *text, size_t len, const char *file_name, char *reason, size_t reason_len)
{
	try {
		toml::table table = toml::parse(std::string_view(text, len), std::string_view(file_name));
		std::ostringstream out;

		out << toml::json_formatter{table};
		return strdup(out.str().c_str());
	} catch (const toml::parse_error &e) {
		snprintf(reason, reason_len, "%s:%u:%u: %s", file_name, e.source().begin.line, e.source().begin.column,
		    std::string(e.description()).c_str());
	} catch (const std::exception &e) {
		snprintf(reason, reason_len, "%s: %s", file_name, e.what());
	}
	return nullptr;
}

static bool is_time(const toml::node &n)
{
	return n.is_date() || n.is_time() || n.is_date_time();
}

extern "C" char *bullpen_toml_date_key(const char *text, size_t len)
{
	try {
		toml::table table = toml::parse(std::string_view(text, len));

		for (auto &&[key, value] : table) {
			bool found = is_time(value);

			if (const toml::array *a = value.as_array())
				for (const toml::node &item : *a)
					found = found || is_time(item);
			if (found)
				return strdup(std::string(key.str()).c_str());
		}
	} catch (const std::exception &) {
		/* Not valid: toml_parse says why. */
	}
	return nullptr;
}
