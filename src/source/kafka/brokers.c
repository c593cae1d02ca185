/*
 * brokers.c
 *	  The allow-list of brokers, as data for any thread.
 *
 * A broker's answer to a metadata request names the addresses of all brokers,
 * and the client connects to them: whoever controls one allowed broker could
 * make the server talk to any port of its network.  So the list is applied to
 * every connection, not only to those that the user named.
 *
 * A host name that a wildcard allows may resolve to anything its owner likes.
 * Addresses of this host and of its link are therefore refused unless the
 * pattern names the host literally.
 */
#include "source/kafka/brokers.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define DEFAULT_PORT "9092"
#define MAX_BROKER	 300

static bool split(const char *broker, char *host, char *port);
static bool glob(const char *pattern, const char *text);
static bool address_is_near(const struct sockaddr *address);

bool
cq_kafka_broker_valid(const char *broker)
{
	char host[MAX_BROKER];
	char port[MAX_BROKER];
	size_t i;

	if (!split(broker, host, port) || host[0] == '\0' || port[0] == '\0')
		return false;
	for (i = 0; host[i] != '\0'; i++)
		if (!isalnum((unsigned char) host[i]) && strchr("._-:", host[i]) == NULL)
			return false;
	if (strspn(port, "0123456789") != strlen(port) || strlen(port) > 5)
		return false;
	return atoi(port) > 0 && atoi(port) < 65536;
}

char *
cq_kafka_broker_trim(char *broker)
{
	char *end;

	while (*broker == ' ' || *broker == '\t' || *broker == '\n')
		broker++;
	end = broker + strlen(broker);
	while (end > broker && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\n'))
		end--;
	*end = '\0';
	return broker;
}

CqKafkaBrokerMatch
cq_kafka_broker_match(const char *patterns, const char *broker)
{
	CqKafkaBrokerMatch found = CQ_KAFKA_BROKER_DENIED;
	char host[MAX_BROKER];
	char port[MAX_BROKER];
	const char *p = patterns;

	if (!split(broker, host, port))
		return CQ_KAFKA_BROKER_DENIED;
	while (*p != '\0')
	{
		size_t len = strcspn(p, ",");
		char pattern[MAX_BROKER];
		char pattern_host[MAX_BROKER];
		char pattern_port[MAX_BROKER];

		if (len < sizeof(pattern))
		{
			memcpy(pattern, p, len);
			pattern[len] = '\0';
			if (split(cq_kafka_broker_trim(pattern), pattern_host, pattern_port) &&
				pattern_host[0] != '\0' && glob(pattern_host, host) && glob(pattern_port, port))
			{
				if (strchr(pattern_host, '*') == NULL)
					return CQ_KAFKA_BROKER_NAMED;
				found = CQ_KAFKA_BROKER_WILDCARD;
			}
		}
		p += len;
		if (*p == ',')
			p++;
	}
	return found;
}

int
cq_kafka_broker_connect(int fd, const struct sockaddr *address, int address_len, const char *broker,
						void *opaque)
{
	CqKafkaBrokerMatch match = cq_kafka_broker_match(opaque, broker);

	if (match == CQ_KAFKA_BROKER_DENIED ||
		(match == CQ_KAFKA_BROKER_WILDCARD && address_is_near(address)))
		return EACCES;
	if (connect(fd, address, (socklen_t) address_len) == 0 || errno == EINPROGRESS)
		return 0;
	return errno;
}

/* Into host and port, each of MAX_BROKER bytes; brackets of an IPv6 address are removed. */
static bool
split(const char *broker, char *host, char *port)
{
	const char *colon;
	size_t len = strlen(broker);

	if (len >= MAX_BROKER)
		return false;
	if (broker[0] == '[')
	{
		const char *close = strchr(broker, ']');

		if (close == NULL || (close[1] != '\0' && close[1] != ':'))
			return false;
		memcpy(host, broker + 1, (size_t) (close - broker - 1));
		host[close - broker - 1] = '\0';
		strcpy(port, close[1] == ':' ? close + 2 : DEFAULT_PORT);
		return true;
	}
	colon = strrchr(broker, ':');
	if (colon == NULL)
	{
		strcpy(host, broker);
		strcpy(port, DEFAULT_PORT);
		return true;
	}
	memcpy(host, broker, (size_t) (colon - broker));
	host[colon - broker] = '\0';
	strcpy(port, colon + 1);
	return true;
}

/* Case does not matter; "*" stands for any number of characters. */
static bool
glob(const char *pattern, const char *text)
{
	const char *star = NULL;
	const char *retry = NULL;

	while (*text != '\0')
	{
		if (*pattern == '*')
		{
			star = pattern++;
			retry = text;
		}
		else if (tolower((unsigned char) *pattern) == tolower((unsigned char) *text))
		{
			pattern++;
			text++;
		}
		else if (star != NULL)
		{
			pattern = star + 1;
			text = ++retry;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

/* Loopback, link-local, unspecified, or no internet address at all. */
static bool
address_is_near(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
	{
		uint32_t ip = ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr);

		return (ip >> 24) == 127 || (ip >> 16) == 0xa9fe || (ip >> 24) == 0;
	}
	if (address->sa_family == AF_INET6)
	{
		const struct in6_addr *ip = &((const struct sockaddr_in6 *) address)->sin6_addr;

		if (IN6_IS_ADDR_V4MAPPED(ip))
		{
			struct sockaddr_in v4 = {.sin_family = AF_INET};

			memcpy(&v4.sin_addr, &ip->s6_addr[12], 4);
			return address_is_near((const struct sockaddr *) &v4);
		}
		return IN6_IS_ADDR_LOOPBACK(ip) || IN6_IS_ADDR_LINKLOCAL(ip) || IN6_IS_ADDR_UNSPECIFIED(ip);
	}
	return true;
}
