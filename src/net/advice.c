#include "net/advice_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <openssl/x509_vfy.h>
#include <string.h>
#include <strings.h>
#include <time.h>

void trust_set(CURL *e)
{
	const char *file = getenv("SSL_CERT_FILE"), *dir = getenv("SSL_CERT_DIR");

	if (file != NULL && file[0] != '\0')
		curl_easy_setopt(e, CURLOPT_CAINFO, file);
	if (dir != NULL && dir[0] != '\0')
		curl_easy_setopt(e, CURLOPT_CAPATH, dir);
}

/* The variable that libcurl takes the proxy from, in its order; HTTP_PROXY is none, for the sake of CGI programs. */
static const char *proxy_variable(bool tls)
{
	static const char *const for_tls[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL};
	static const char *const for_plain[] = {"http_proxy", "all_proxy", "ALL_PROXY", NULL};

	for (const char *const *v = tls ? for_tls : for_plain; *v != NULL; v++) {
		const char *value = getenv(*v);

		if (value != NULL && value[0] != '\0')
			return *v;
	}
	return NULL;
}

/* "host port 3128 " of the proxy, as curl words it; NULL if the variable's value is no address. malloc'ed. */
static char *proxy_words(const char *variable)
{
	CURLU *u = curl_url();
	char *host = NULL, *port = NULL, *out = NULL;

	ENSURE(u != NULL);
	if (curl_url_set(u, CURLUPART_URL, getenv(variable), CURLU_DEFAULT_SCHEME | CURLU_NON_SUPPORT_SCHEME) ==
		CURLUE_OK &&
	    curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK)
		out = curl_url_get(u, CURLUPART_PORT, &port, 0) == CURLUE_OK ? str_printf("%s port %s ", host, port)
									     : str_printf("%s port ", host);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return out;
}

/* libcurl does not say whether it was the proxy that it could not reach (CURLINFO_USED_PROXY came later), but names the
 * machine that it called. */
static bool called_proxy(const struct failed_dial *f, const char *variable)
{
	AUTO_STR words = variable != NULL ? proxy_words(variable) : NULL;

	return words != NULL && strstr(f->error, words) != NULL;
}

/* curl's own text repeats host and port around the reason. */
static const char *refusal_of(const struct failed_dial *f)
{
	const char *colon = strrchr(f->error, ':');
	long os = 0;

	curl_easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &os);
	if (os != 0)
		return strerror((int)os);
	return colon != NULL && colon[1] == ' ' ? colon + 2 : curl_easy_strerror(f->code);
}

static int advise_unreached(const struct failed_dial *f, struct why *why)
{
	const char *variable = proxy_variable(f->tls), *reason = refusal_of(f);

	if (called_proxy(f, variable))
		return why_set(why, ERR_NET,
		    "cannot connect to %s: the proxy of %s cannot be reached: %s: correct or unset %s, or name the "
		    "host in NO_PROXY",
		    f->host, variable, reason, variable);
	return why_set(why, ERR_NET, "cannot connect to %s: %s%s", f->host, reason,
	    strcasestr(reason, "refused") != NULL ? ": is the server running there?" : "");
}

static int advise_proxy_answer(const struct failed_dial *f, long status, struct why *why)
{
	const char *variable = proxy_variable(f->tls);

	if (variable == NULL)
		variable = f->tls ? "HTTPS_PROXY" : "http_proxy";
	if (status == 407)
		return why_set(why, ERR_NET,
		    "cannot connect to %s: the proxy refuses the credentials (407): set "
		    "%s=http://USER:PASSWORD@HOST:PORT",
		    f->host, variable);
	if (status == 403)
		return why_set(why, ERR_NET,
		    "cannot connect to %s: the proxy of %s does not allow it (403): allow it there, or name the host "
		    "in NO_PROXY",
		    f->host, variable);
	return why_set(why, ERR_NET, "cannot connect to %s: the proxy of %s answered %ld", f->host, variable, status);
}

static int advise_name(const struct failed_dial *f, struct why *why)
{
	const char *variable = proxy_variable(f->tls);

	if (f->code == CURLE_COULDNT_RESOLVE_PROXY)
		return why_set(why, ERR_NET,
		    "cannot connect to %s: the name of the proxy of %s is not known: correct or unset %s", f->host,
		    variable != NULL ? variable : "HTTPS_PROXY", variable != NULL ? variable : "HTTPS_PROXY");
	return why_set(why, ERR_NET,
	    "cannot connect to %s: the name is not known: check its spelling and this machine's DNS", f->host);
}

static int advise_certificate(const struct failed_dial *f, struct why *why)
{
	long result = 0;
	const char *ca = f->ca_setting != NULL ? f->ca_setting : "SSL_CERT_FILE";
	time_t now = time(NULL);
	char date[32] = "";
	struct tm tm;

	curl_easy_getinfo(f->easy, CURLINFO_SSL_VERIFYRESULT, &result);
	if (gmtime_r(&now, &tm) != NULL)
		strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &tm);
	if (result == X509_V_ERR_CERT_HAS_EXPIRED)
		return why_set(why, ERR_NET,
		    "cannot connect to %s: its certificate has expired: renew it there (if this machine's clock, %s, "
		    "is right)",
		    f->host, date);
	if (result == X509_V_ERR_CERT_NOT_YET_VALID)
		return why_set(why, ERR_NET,
		    "cannot connect to %s: its certificate is not valid yet: check the clock of this machine (%s) and "
		    "the certificate's dates",
		    f->host, date);
	if (result == X509_V_ERR_HOSTNAME_MISMATCH || result == X509_V_ERR_IP_ADDRESS_MISMATCH ||
	    strstr(f->error, "subject name") != NULL)
		return why_set(why, ERR_NET,
		    "cannot connect to %s: its certificate is for another name: use the name that the certificate "
		    "has, or have one made for this one",
		    f->host);
	return why_set(why, ERR_NET, "cannot connect to %s: %s: name a private CA's file in %s", f->host,
	    f->error[0] != '\0' ? f->error : "its certificate is not trusted", ca);
}

int advice_no_h2(const char *host, struct why *why)
{
	return why_set(why, ERR_NET,
	    "%s does not speak HTTP/2: a proxy in front of the control plane must pass it (ALPN h2)", host);
}

static int advise_handshake(const struct failed_dial *f, struct why *why)
{
	static const char *const plain[] = {"wrong version number", "packet length too long", "http request",
	    "record layer failure", "unexpected eof", "SSL_ERROR_SYSCALL"};

	/* How a server refuses a client that offers h2 only. */
	if (strstr(f->error, "no application protocol") != NULL)
		return advice_no_h2(f->host, why);
	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		if (strstr(f->error, plain[i]) != NULL)
			return why_set(why, ERR_NET,
			    "cannot connect to %s: it does not speak TLS: the address must begin with http://, or be "
			    "another port (%s)",
			    f->host, plain[i]);
	return why_set(why, ERR_NET, "cannot connect to %s: %s", f->host,
	    f->error[0] != '\0' ? f->error : curl_easy_strerror(f->code));
}

/* In the clear: what comes first from a server with TLS is an alert, or nothing. */
static bool seems_tls(const struct failed_dial *f)
{
	return !f->tls && (f->code == CURLE_GOT_NOTHING || strstr(f->error, "HTTP/0.9") != NULL);
}

static int advise_timeout(const struct failed_dial *f, struct why *why)
{
	const char *variable = proxy_variable(f->tls);
	double connected = 0;

	curl_easy_getinfo(f->easy, CURLINFO_CONNECT_TIME, &connected);
	if (connected > 0)
		return why_set(why, ERR_TIMEOUT, "%s did not answer in time", f->host);
	return why_set(why, ERR_TIMEOUT, "cannot connect to %s in time%s%s", f->host,
	    variable != NULL ? ": is the proxy right that is set in " : "", variable != NULL ? variable : "");
}

int advice_set(const struct failed_dial *f, struct why *why)
{
	long proxy = 0;

	curl_easy_getinfo(f->easy, CURLINFO_HTTP_CONNECTCODE, &proxy);
	/* Curl repeats a setting that it does not understand as it is. */
	if (text_has_prefix(f->error, "Unsupported proxy"))
		return why_set(why, ERR_NET,
		    "cannot connect to %s: the proxy of HTTPS_PROXY, http_proxy or ALL_PROXY is not an address that "
		    "can be used: it must be http://USER:PASSWORD@HOST:PORT",
		    f->host);
	if (f->code != CURLE_OPERATION_TIMEDOUT && proxy != 0 && proxy / 100 != 2)
		return advise_proxy_answer(f, proxy, why);
	if (seems_tls(f))
		return why_set(why, ERR_NET,
		    "%s answered with what is not HTTP: does it speak TLS? Then the address must begin with https://",
		    f->host);
	switch (f->code) {
	case CURLE_OPERATION_TIMEDOUT:
		return advise_timeout(f, why);
	case CURLE_COULDNT_CONNECT:
		return advise_unreached(f, why);
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return advise_name(f, why);
	case CURLE_PEER_FAILED_VERIFICATION:
		return advise_certificate(f, why);
	case CURLE_SSL_CACERT_BADFILE:
		return why_set(why, ERR_NET, "cannot connect to %s: the file in %s cannot be used: %s", f->host,
		    f->ca_setting != NULL ? f->ca_setting : "SSL_CERT_FILE", f->error);
	case CURLE_SSL_CONNECT_ERROR:
		return advise_handshake(f, why);
	default:
		return why_set(why, ERR_NET, "the request to %s failed: %s", f->host,
		    f->error[0] != '\0' ? f->error : curl_easy_strerror(f->code));
	}
}

static bool is_html(const char *content_type, const char *body)
{
	return (content_type != NULL && strcasestr(content_type, "html") != NULL) ||
	       (body != NULL && body[strspn(body, " \t\r\n")] == '<');
}

char *advice_not_ours(const char *where, int status, const char *content_type, const char *body)
{
	const char *what = is_html(content_type, body) ? "an HTML page" : "something";
	const char *variable = proxy_variable(strncasecmp(where, "https", 5) == 0);

	if (status == 407 || (variable != NULL && status == 403))
		return str_printf("the proxy of %s refuses the request to %s (HTTP %d): it wants credentials "
				  "(%s=http://USER:PASSWORD@HOST:PORT), or name the host in NO_PROXY",
		    variable != NULL ? variable : "http_proxy", where, status,
		    variable != NULL ? variable : "http_proxy");
	if (status >= 502 && status <= 504)
		return str_printf("%s answered HTTP %d with %s: what stands in front of the control plane does not "
				  "reach it: is it running?",
		    where, status, what);
	if (status >= 300 && status < 400)
		return str_printf(
		    "%s redirects (HTTP %d), which is not followed: use the address of the control plane itself", where,
		    status);
	return str_printf(
	    "%s answered HTTP %d with %s, not as a control plane does: is the endpoint right?", where, status, what);
}
