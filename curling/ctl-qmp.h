/*
 * Questions to a QEMU over QMP, and its answers
 *
 * A QMP socket serves one client at a time.  So whoever wants to watch for
 * long opens it, asks and closes it again each time, and others get their
 * turn in between; only "events" stays.
 *
 * All calls come from the main loop's thread.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_QMP_H
#define CURLING_CTL_QMP_H

#include "ctl-endpoint.h"
#include "ctl-json.h"

typedef struct CtlQmp CtlQmp;

/* Begin to connect; several can be under way.  @endpoint is borrowed until
 * ctl_qmp_close(). */
CtlQmp *ctl_qmp_open(const CtlEndpoint *endpoint);
void ctl_qmp_close(CtlQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CtlQmp, ctl_qmp_close)

/* Wait until QEMU has greeted and takes commands.  Sentences name the
 * endpoint. */
bool ctl_qmp_wait_ready(CtlQmp *qmp, CtlDeadline deadline, GError **err);

/* Is it so now? */
bool ctl_qmp_is_ready(CtlQmp *qmp);

/* What QEMU said of itself: {"version": ...}; NULL before it greeted. */
const CtlJson *ctl_qmp_greeting(const CtlQmp *qmp);

/*
 * Run @command with arguments in jansson's pack format (NULL: none) and wait
 * for what it returns, which is freed with ctl_json_free().  NULL: @err is
 * set; CTL_ERROR_REFUSED is QEMU's own sentence behind the endpoint's name.
 * After another error but that and CTL_ERROR_NO_COMMAND, @qmp is of no further
 * use.
 */
CtlJson *ctl_qmp_call(CtlQmp *qmp, CtlDeadline deadline, GError **err,
                      const char *command, const char *fmt, ...);

/* The same; @arguments (may be NULL) are taken. */
CtlJson *ctl_qmp_call_json(CtlQmp *qmp, CtlDeadline deadline, GError **err,
                           const char *command, CtlJson *arguments);

/*
 * The same in steps, for questions to several at once: ask, which may be done
 * at any time; look whether there is an answer, or none will come; take it.
 * Who does not want to wait any longer says why, @why being ctl_wait()'s.
 */
void ctl_qmp_ask(CtlQmp *qmp, const char *command, CtlJson *arguments);
bool ctl_qmp_has_answer(CtlQmp *qmp);
CtlJson *ctl_qmp_take_answer(CtlQmp *qmp, GError **err);
void ctl_qmp_give_up(CtlQmp *qmp, const GError *why);

/* Be told of events as they come; what came before is not. */
typedef void CtlQmpEvent(const CtlJson *event, void *opaque);
void ctl_qmp_on_event(CtlQmp *qmp, CtlQmpEvent *event, void *opaque);

/* Has the connection failed?  Then @err says how. */
bool ctl_qmp_has_failed(const CtlQmp *qmp, GError **err);

#endif
