"""Two small model servers that keep TF Serving's contracts and run an exported SavedModel."""

import json
import re
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc


class Served:
    """An export as a server holds it; `faults` are what it answers before it works.

    Over REST the faults "chunked" and "counted" are answers cut in the middle.
    """

    def __init__(self, version, loaded):
        self.name = version.parent.name
        self.signatures = loaded.signatures
        self.owner = loaded
        model = saved_model_pb2.SavedModel()
        model.ParseFromString((version / "saved_model.pb").read_bytes())
        self.definitions = {
            name: signature
            for name, signature in model.meta_graphs[0].signature_def.items()
            if not name.startswith("__")
        }
        self.faults = []
        self.requests = []

    def run(self, signature, inputs):
        self.requests.append({name: tuple(value.shape) for name, value in inputs.items()})
        return self.signatures[signature](**inputs)


def rest_server(served):
    """Serve on a free port of the loopback; returns the server, whose `address` is an URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, status, value):
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def answer_in_part(self, how):
            """Promise more than comes, and hang up."""
            self.protocol_version = "HTTP/1.1"
            self.send_response(200)
            if how == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'80\r\n{"outputs": [[' if how == "chunked" else b'{"outputs": [[')
            self.close_connection = True

        def check(self):
            """The suffix of the path, or None where an answer has been sent."""
            if served.faults:
                fault = served.faults.pop(0)
                if isinstance(fault, str):
                    self.answer_in_part(fault)
                else:
                    self.answer(*fault)
                return None
            found = re.fullmatch(rf"/v1/models/{served.name}(?:/versions/1)?(/metadata|:predict)", self.path)
            if found is None:
                self.answer(404, {"error": "Servable not found for request"})
                return None
            return found[1]

        def do_GET(self):
            if self.check() is None:
                return
            signatures = {
                n: json_format.MessageToDict(s, preserving_proto_field_name=True)
                for n, s in served.definitions.items()
            }
            spec = {"name": served.name, "signature_name": "", "version": "1"}
            metadata = {"signature_def": {"signature_def": signatures}}
            self.answer(200, {"model_spec": spec, "metadata": metadata})

        def do_POST(self):
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            if self.check() is None:
                return
            signature = body.get("signature_name", "serving_default")
            types = served.definitions[signature].inputs
            try:
                inputs = {n: tf.constant(v, types[n].dtype) for n, v in body["inputs"].items()}
                outputs = {n: v.numpy().tolist() for n, v in served.run(signature, inputs).items()}
            except (TypeError, ValueError, tf.errors.OpError) as error:
                self.answer(400, {"error": str(error)})
                return
            self.answer(200, {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, served):
        self.served = served

    def check(self, spec, context):
        if self.served.faults:
            context.abort(*self.served.faults.pop(0))
        if spec.name != self.served.name or spec.version.value not in {0, 1}:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")

    def GetModelMetadata(self, request, context):
        self.check(request.model_spec, context)
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=self.served.definitions)
        answer = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
        answer.metadata["signature_def"].Pack(signatures)
        return answer

    def Predict(self, request, context):
        self.check(request.model_spec, context)
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        try:
            outputs = self.served.run(request.model_spec.signature_name, inputs)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        answer = predict_pb2.PredictResponse(model_spec=request.model_spec)
        for name in request.output_filter or outputs:
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name].numpy()))
        return answer


def grpc_server(served):
    """Serve on a free port of the loopback, with gRPC's own limit of 4 MiB a message."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(served), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"grpc://127.0.0.1:{port}"
