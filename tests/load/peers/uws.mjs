// Fan-out with uWebSockets' own publish and subscribe. Usage: node uws.mjs PORT
import uws from "@trufflesuite/uws-js-unofficial";

const app = uws.App();
app.ws("/sub/:topic", {
  compression: uws.DISABLED,
  idleTimeout: 0,
  maxBackpressure: 0,
  maxPayloadLength: 1 << 20,
  upgrade: (response, request, context) => {
    response.upgrade(
      { topic: request.getParameter(0) },
      request.getHeader("sec-websocket-key"),
      request.getHeader("sec-websocket-protocol"),
      request.getHeader("sec-websocket-extensions"),
      context,
    );
  },
  open: (socket) => socket.subscribe(socket.topic),
});
app.post("/pub/:topic", (response, request) => {
  const topic = request.getParameter(0);
  let body = null;
  response.onAborted(() => {});
  response.onData((chunk, isLast) => {
    // The chunk's memory belongs to the library and is valid only during this call.
    if (!isLast || body) body = Buffer.concat([body ?? Buffer.alloc(0), Buffer.from(chunk)]);
    if (!isLast) return;
    app.publish(topic, body ?? chunk, false);
    response.cork(() => response.writeStatus("202 Accepted").end("ok"));
  });
});
process.on("SIGTERM", () => process.exit(0));
app.listen("127.0.0.1", Number(process.argv[2]), (socket) => {
  if (!socket) process.exit(1);
});
