/*
 * handlers.h
 *	  What the utility hook calls, by kind of statement.  A handler does nothing
 *	  of its own about objects that are not ours.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "ddl/utility_hook.h"

/* create_view.c: CREATE VIEW, and statements that should have been one */
extern void cq_create_view(CqUtility *utility);
extern void cq_refuse_table_as(CqUtility *utility);
extern void cq_refuse_rule(CqUtility *utility);

/* alter.c: finds out what an ALTER is about and sends it on */
extern void cq_alter_table(CqUtility *utility);
extern void cq_rename(CqUtility *utility);
extern void cq_set_schema(CqUtility *utility);

/* alter_view.c: what is altered of a continuous view is carried to what lies beneath it */
extern void cq_alter_view(CqUtility *utility, Oid view);
extern void cq_rename_view(CqUtility *utility, Oid view);
extern void cq_move_view(CqUtility *utility, Oid view);
extern void cq_alter_late_table(CqUtility *utility, Oid table);
extern void cq_reassign_owned(CqUtility *utility);

/* family.c: partitions and children */
extern void cq_create_table(CqUtility *utility);

/*
 * index.c: indexes of a continuous view.  The last two return false, having done
 * nothing, if the name is not that of one.
 */
extern void cq_create_index(CqUtility *utility);
extern void cq_drop_index(CqUtility *utility);
extern bool cq_alter_index(CqUtility *utility);
extern bool cq_rename_index(CqUtility *utility);
extern void cq_comment(CqUtility *utility);
extern void cq_reindex(CqUtility *utility);

/* vacuum.c */
extern void cq_vacuum_view(CqUtility *utility);

/* refuse.c: statements that would make a view wrong without a word */
extern void cq_refuse_trigger(CqUtility *utility);
extern bool cq_skip_trigger(CqUtility *utility); /* false: not ours, nothing was done */
extern void cq_refuse_truncate(CqUtility *utility);
extern void cq_refuse_wrapper(CqUtility *utility);
extern void cq_replace_function(CqUtility *utility);
extern void cq_replace_aggregate(CqUtility *utility);
extern void cq_alter_function(CqUtility *utility);
extern void cq_refuse_renaming(ObjectType type, Oid relid, Node *object, const char *schema);

/* stream.c: definition of streams, and of what they connect to */
extern void cq_create_stream(CqUtility *utility);
extern void cq_alter_streams(CqUtility *utility, List *streams);
extern void cq_rename_stream_columns(CqUtility *utility, List *streams);
extern void cq_alter_server(CqUtility *utility);
extern void cq_alter_owner(CqUtility *utility);
extern void cq_alter_user_mapping(CqUtility *utility);

/* database.c: keeps workers out of a database while it must have no sessions */
extern void cq_create_database(CqUtility *utility);
extern void cq_drop_database(CqUtility *utility);
extern void cq_alter_database(CqUtility *utility);
extern void cq_rename_database(CqUtility *utility);

/* drop.c */
extern void cq_create_extension(CqUtility *utility);
extern void cq_alter_extension(CqUtility *utility);
