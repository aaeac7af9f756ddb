/*
 * The handshake: HELLO, and WELCOME or REJECT
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_HELLO_H
#define CURLING_HELLO_H

#include <stdint.h>

#include "error.h"
#include "session.h"
#include "wire.h"

/* Longest wait for HELLO, and for the answer to it. */
#define CURLING_HANDSHAKE_MS 5000

/* No frame that a receiver sends has a longer payload. */
#define CURLING_ANSWER_MAX (CURLING_REJECT_TEXT + CURLING_TEXT_MAX)

/* A session for people: the first octets of its id, in hex.  Not all of it,
 * as who knows that can come in its sender's place. */
#define CURLING_SESSION_NAME_BYTES 9

/* What HELLO says; its generation is the frame's. */
typedef struct CurlingHello {
    uint8_t session[CURLING_SESSION_ID_BYTES];
    uint32_t generation;
    uint32_t heartbeat_ms;
    uint32_t peer_timeout_ms;
    uint64_t committed;
    uint32_t fence_after_ms;    /* the sender's lease; 0: none */
    char *description;          /* NUL-terminated */
} CurlingHello;

typedef struct CurlingWelcome {
    uint8_t session[CURLING_SESSION_ID_BYTES];
    uint32_t heartbeat_ms;
    uint32_t peer_timeout_ms;
    uint64_t held;
    uint64_t instance;          /* random, once per process */
} CurlingWelcome;

/* @name has room for CURLING_SESSION_NAME_BYTES. */
void curling_hello_session_name(const uint8_t *session, char *name);

/*
 * All of these block as curling_session_send() and curling_session_recv() do
 * and return what those return.
 */

/* Sender: say HELLO. */
int curling_hello_send(CurlingSession *session, const CurlingHello *hello,
                       CurlingError *err);

/* Receiver: hear HELLO.  hello->description is the caller's then and freed
 * with free(); it is NULL on error. */
int curling_hello_recv(CurlingSession *session, CurlingHello *hello,
                       CurlingError *err);

/* Receiver: the answer. */
int curling_welcome_send(CurlingSession *session,
                         const CurlingWelcome *welcome, CurlingError *err);
int curling_reject_send(CurlingSession *session, uint32_t kind,
                        const char *text, CurlingError *err);

/*
 * Sender: hear the answer.  Besides what the session returns: -ECONNREFUSED
 * for a REJECT that is final, -EBUSY for one that is not, -ESTALE for
 * SUPERSEDED, -EPROTO for anything but an answer.
 */
int curling_welcome_recv(CurlingSession *session, CurlingWelcome *welcome,
                         CurlingError *err);

/* Sender: any frame of a receiver, @payload has CURLING_ANSWER_MAX octets. */
int curling_answer_recv(CurlingSession *session, CurlingHeader *header,
                        uint8_t *payload, CurlingError *err);

/* The sentence for SUPERSEDED; returns -ESTALE. */
int curling_superseded_error(const CurlingHeader *header, CurlingError *err);

#endif
