/*
 * What is done to a session: end it, have the guest go over to the receiver
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_SESSION_H
#define CURLING_CTL_SESSION_H

#include "ctl-pair.h"

/* All of these are about ends that were asked before, and wait until it is
 * done.  False: @err is set. */

/* @sender ends its session and the guest runs on; *@was: there was one. */
bool ctl_session_end(CtlEnd *sender, bool *was, GError **err);

/* The receiver runs the guest: asked there, or at the sender.  @err says where
 * it runs if that is known. */
bool ctl_session_take_over(CtlPair *pair, bool force, GError **err);
bool ctl_session_hand_over(CtlPair *pair, GError **err);

#endif
