/*
 * The handshake: HELLO, and WELCOME or REJECT
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hello.h"

void curling_hello_session_name(const uint8_t *session, char *name)
{
    snprintf(name, CURLING_SESSION_NAME_BYTES, "%08" PRIx32,
             curling_get_u32(session));
}

int curling_hello_send(CurlingSession *session, const CurlingHello *hello,
                       CurlingError *err)
{
    size_t text_bytes = strlen(hello->description);
    uint8_t *payload;
    int ret;

    if (text_bytes > CURLING_DESCRIPTION_MAX) {
        return curling_error_set(err, -EOVERFLOW, "the description of this "
                                 "machine has %zu bytes, limit %d", text_bytes,
                                 CURLING_DESCRIPTION_MAX);
    }
    payload = malloc(CURLING_HELLO_DESCRIPTION + text_bytes);
    if (!payload) {
        return curling_error_set(err, -ENOMEM, "no memory for HELLO");
    }
    memcpy(payload + CURLING_HELLO_SESSION, hello->session,
           CURLING_SESSION_ID_BYTES);
    curling_put_u32(payload + CURLING_HELLO_HEARTBEAT_MS, hello->heartbeat_ms);
    curling_put_u32(payload + CURLING_HELLO_PEER_TIMEOUT_MS,
                    hello->peer_timeout_ms);
    curling_put_u64(payload + CURLING_HELLO_COMMITTED, hello->committed);
    curling_put_u32(payload + CURLING_HELLO_FENCE_AFTER_MS,
                    hello->fence_after_ms);
    curling_put_u32(payload + CURLING_HELLO_RESERVED, 0);
    memcpy(payload + CURLING_HELLO_DESCRIPTION, hello->description,
           text_bytes);
    ret = curling_session_send(session, CURLING_TYPE_HELLO, CURLING_ROUND_NONE,
                               payload,
                               CURLING_HELLO_DESCRIPTION + text_bytes, err);
    free(payload);
    return ret;
}

int curling_hello_recv(CurlingSession *session, CurlingHello *hello,
                       CurlingError *err)
{
    CurlingHeader header;
    uint8_t *payload;
    size_t text_bytes;
    int ret;

    hello->description = NULL;
    ret = curling_session_recv(session, &header, err);
    if (ret < 0) {
        return ret;
    }
    if (header.type != CURLING_TYPE_HELLO) {
        return curling_error_set(err, -EPROTO, "got %s, expected HELLO",
                                 curling_frame_type_name(header.type));
    }
    payload = malloc(header.length_bytes + 1);
    if (!payload) {
        return curling_error_set(err, -ENOMEM, "no memory for HELLO");
    }
    ret = curling_session_recv_payload(session, &header, payload, err);
    if (ret == 0 && curling_get_u32(payload + CURLING_HELLO_RESERVED)) {
        ret = curling_error_set(err, -EPROTO, "got a HELLO with a reserved "
                                "field of %" PRIu32 ", expected 0",
                                curling_get_u32(payload +
                                                CURLING_HELLO_RESERVED));
    }
    if (ret < 0) {
        free(payload);
        return ret;
    }
    memcpy(hello->session, payload + CURLING_HELLO_SESSION,
           CURLING_SESSION_ID_BYTES);
    hello->generation = header.generation;
    hello->heartbeat_ms = curling_get_u32(payload +
                                          CURLING_HELLO_HEARTBEAT_MS);
    hello->peer_timeout_ms = curling_get_u32(payload +
                                             CURLING_HELLO_PEER_TIMEOUT_MS);
    hello->committed = curling_get_u64(payload + CURLING_HELLO_COMMITTED);
    hello->fence_after_ms = curling_get_u32(payload +
                                            CURLING_HELLO_FENCE_AFTER_MS);
    text_bytes = header.length_bytes - CURLING_HELLO_DESCRIPTION;
    memmove(payload, payload + CURLING_HELLO_DESCRIPTION, text_bytes);
    payload[text_bytes] = 0;
    hello->description = (char *)payload;
    return 0;
}

int curling_welcome_send(CurlingSession *session,
                         const CurlingWelcome *welcome, CurlingError *err)
{
    uint8_t payload[CURLING_WELCOME_BYTES];

    memcpy(payload + CURLING_WELCOME_SESSION, welcome->session,
           CURLING_SESSION_ID_BYTES);
    curling_put_u32(payload + CURLING_WELCOME_HEARTBEAT_MS,
                    welcome->heartbeat_ms);
    curling_put_u32(payload + CURLING_WELCOME_PEER_TIMEOUT_MS,
                    welcome->peer_timeout_ms);
    curling_put_u64(payload + CURLING_WELCOME_HELD, welcome->held);
    curling_put_u64(payload + CURLING_WELCOME_INSTANCE, welcome->instance);
    return curling_session_send(session, CURLING_TYPE_WELCOME,
                                CURLING_ROUND_NONE, payload, sizeof(payload),
                                err);
}

int curling_reject_send(CurlingSession *session, uint32_t kind,
                        const char *text, CurlingError *err)
{
    uint8_t payload[CURLING_ANSWER_MAX];
    size_t text_bytes = strnlen(text, CURLING_TEXT_MAX);

    curling_put_u32(payload + CURLING_REJECT_KIND, kind);
    memcpy(payload + CURLING_REJECT_TEXT, text, text_bytes);
    return curling_session_send(session, CURLING_TYPE_REJECT,
                                CURLING_ROUND_NONE, payload,
                                CURLING_REJECT_TEXT + text_bytes, err);
}

int curling_superseded_error(const CurlingHeader *header, CurlingError *err)
{
    return curling_error_set(err, -ESTALE, "the receiver took over: the guest "
                             "runs there, in generation %" PRIu32,
                             header->generation);
}

int curling_answer_recv(CurlingSession *session, CurlingHeader *header,
                        uint8_t *payload, CurlingError *err)
{
    int ret = curling_session_recv(session, header, err);

    if (ret < 0) {
        return ret;
    }
    if (header->length_bytes > CURLING_ANSWER_MAX) {
        return curling_error_set(err, -EPROTO, "got %s of %" PRIu32 " bytes, "
                                 "expected at most %d",
                                 curling_frame_type_name(header->type),
                                 header->length_bytes, CURLING_ANSWER_MAX);
    }
    return curling_session_recv_payload(session, header, payload, err);
}

static int rejected(const CurlingHeader *header, const uint8_t *payload,
                    CurlingError *err)
{
    uint32_t kind = curling_get_u32(payload + CURLING_REJECT_KIND);
    char text[CURLING_TEXT_MAX + 1];

    return curling_error_set(err, kind == CURLING_REJECT_BUSY ? -EBUSY :
                             -ECONNREFUSED, "the receiver refuses: %s",
                             curling_error_quote(text, sizeof(text),
                                                 payload + CURLING_REJECT_TEXT,
                                                 header->length_bytes -
                                                 CURLING_REJECT_TEXT));
}

int curling_welcome_recv(CurlingSession *session, CurlingWelcome *welcome,
                         CurlingError *err)
{
    uint8_t payload[CURLING_ANSWER_MAX];
    CurlingHeader header;
    int ret = curling_answer_recv(session, &header, payload, err);

    if (ret < 0) {
        return ret;
    }
    switch (header.type) {
    case CURLING_TYPE_WELCOME:
        break;
    case CURLING_TYPE_REJECT:
        return rejected(&header, payload, err);
    case CURLING_TYPE_SUPERSEDED:
        return curling_superseded_error(&header, err);
    default:
        return curling_error_set(err, -EPROTO, "got %s, expected WELCOME",
                                 curling_frame_type_name(header.type));
    }
    memcpy(welcome->session, payload + CURLING_WELCOME_SESSION,
           CURLING_SESSION_ID_BYTES);
    welcome->heartbeat_ms = curling_get_u32(payload +
                                            CURLING_WELCOME_HEARTBEAT_MS);
    welcome->peer_timeout_ms = curling_get_u32(payload +
                                               CURLING_WELCOME_PEER_TIMEOUT_MS);
    welcome->held = curling_get_u64(payload + CURLING_WELCOME_HELD);
    welcome->instance = curling_get_u64(payload + CURLING_WELCOME_INSTANCE);
    return 0;
}
