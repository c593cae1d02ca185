/*
 * properties.h
 *	  May this client property, or this list of brokers, be used by that role?
 */
#pragma once

#include "postgres.h"

/*
 * Check an option of a server (catalog = ForeignServerRelationId) or of a user
 * mapping (UserMappingRelationId) that is a property of librdkafka, with the
 * rights of the current user.  Errors out if it may not be set there, by this
 * user, or to this value; the message never contains the value.
 */
extern void cq_kafka_property_check(const char *name, const char *value, Oid catalog);

/* Likewise with the rights of some role: DDL-time checks are bypassed by changes of owner. */
extern void cq_kafka_property_check_for(const char *name, const char *value, Oid catalog, Oid role);

/*
 * Check a server's bootstrap_servers: "host:port, ...".  Roles that are not
 * superusers may name only brokers that pipeline.allowed_brokers lists.
 */
extern void cq_kafka_brokers_check(const char *brokers, Oid role);
