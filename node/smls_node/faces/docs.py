# SPDX-License-Identifier: MIT
"""``GET /v2/docs``: the node's calls as a page to try them, and as OpenAPI. Needs no network."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from smls.site import LimitedRequest
from smls.web import Answer, json_answer
from smls_node.faces import described
from smls_node.faces.description import openapi
from smls_node.faces.examples import with_examples
from smls_node.faces.terms import Terms
from smls_node.serving import Serving


def add_routes(app: Any, serving: Serving, terms: Terms, version: str) -> None:
    """Adds the two calls to the Klein application; ``version`` is the program's."""
    faces = described.FORMS, described.OIP, described.TFSERVING, described.METRICS
    description = openapi(version, *faces)
    page = Answer(200, _PAGE.encode(), "text/html; charset=utf-8")

    @app.route("/v2/docs", methods=["GET"])  # type: ignore[untyped-decorator]
    def docs(request: LimitedRequest) -> bytes:
        return page.write_to(request)

    @app.route("/v2/docs/openapi.json", methods=["GET"])  # type: ignore[untyped-decorator]
    def as_openapi(request: LimitedRequest) -> Deferred[bytes]:
        # An image of zeros is hundreds of kilobytes, and there may be many models of images.
        names = dict.fromkeys(model.name for model in serving.catalogue.models)
        models = {name: serving.catalogue.find(name) for name in names}
        answer = terms.in_thread(lambda: json_answer(with_examples(description, models)))
        return answer.addCallback(lambda answer: terms.told(request, answer))


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>smls node: calls</title>
<link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 3rem auto; padding: 0 1rem;
  color: #222; }
details { border-bottom: 1px solid #ddd; padding: .4rem 0; }
summary { cursor: pointer; }
summary code { font-size: 1rem; overflow-wrap: anywhere; }
label { display: block; margin: .3rem 0; }
input, select { max-width: 100%; box-sizing: border-box; }
textarea { width: 100%; box-sizing: border-box; height: 8rem; font-family: monospace; }
pre { background: #f4f4f4; padding: .6rem; overflow: auto; max-height: 24rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
small { color: #555; }
</style>
<h1>Calls of this node</h1>
<p><a href="/v2/docs/openapi.json">openapi.json</a></p>
<div id="calls"></div>
<script>
const add = (parent, tag, text, more) =>
  parent.appendChild(Object.assign(document.createElement(tag), {textContent: text || ""}, more));

function example(schema) {
  if (schema.anyOf) return example(schema.anyOf[0]);
  if (schema.enum) return schema.enum.includes("FP32") ? "FP32" : schema.enum[0];
  if (schema.type === "object") {
    const value = {};
    for (const name of schema.required || []) value[name] = example(schema.properties[name]);
    return value;
  }
  if (schema.type === "array") return schema.items ? [example(schema.items)] : [];
  return {integer: 1, number: 1, boolean: true}[schema.type] ?? "";
}

const shown = value => JSON.stringify(value, null, 1).replace(
  /\\[[^\\[\\]{}"]*\\]/g, numbers => numbers.replace(/\\s+/g, " "));

function call(path, method, operation, components) {
  const box = add(document.getElementById("calls"), "details");
  const head = add(box, "summary");
  add(head, "code", method.toUpperCase() + " " + path);
  add(head, "small", "  " + operation.summary);
  const form = add(box, "form"), fields = [];
  for (const parameter of operation.parameters) {
    const label = add(form, "label", parameter.name + " ");
    const values = Object.values(parameter.examples || {}).map(each => each.value);
    const field = add(label, "input", "", {required: !!parameter.required, value: values[0] ?? ""});
    if (values.length) {
      const list = add(label, "datalist", "", {id: path + " " + parameter.name});
      for (const value of new Set(values)) add(list, "option", "", {value});
      field.setAttribute("list", list.id);
    }
    add(label, "small", " " + parameter.in);
    fields.push([parameter, field]);
  }
  const kinds = Object.keys(operation.requestBody?.content || {});
  let text, file, kind;
  if (kinds.length) {
    kind = add(add(form, "label", "body as "), "select");
    for (const each of kinds) add(kind, "option", each);
    const json = operation.requestBody.content["application/json"];
    if (json) {
      text = add(form, "textarea");
      const model = fields.find(([{name}]) => name === "name")?.[1];
      const fill = () => {
        const own = json.examples?.[model?.value]?.$ref.split("/").pop();
        text.value = shown(own ? components.examples[own].value : example(json.schema));
        for (const [{name, examples}, field] of fields)
          if (name === "number") field.value = examples?.[model.value]?.value ?? field.value;
      };
      model?.addEventListener("change", fill);
      // An image of zeros is long: it is written where it is looked at.
      box.addEventListener("toggle", fill, {once: true});
    }
    file = add(add(form, "label", "or a file "), "input", "", {type: "file"});
  }
  add(form, "button", "Try it");
  const answer = add(box, "pre");
  form.onsubmit = async event => {
    event.preventDefault();
    let url = path, body;
    const query = new URLSearchParams(), headers = {};
    for (const [{name, in: place}, {value}] of fields) {
      if (place === "path") url = url.replace("{" + name + "}", encodeURIComponent(value));
      else if (value && place === "query") query.set(name, value);
      else if (value) headers[name] = value;
    }
    if (file && file.files.length) {
      body = file.files[0];
      if (kind.value === "multipart/form-data") {
        body = new FormData();
        body.set("data", file.files[0]);
      } else headers["Content-Type"] = kind.value.replace("*", "jpeg");
    } else if (text) {
      body = text.value;
      headers["Content-Type"] = kind.value.includes("urlencoded") ? kind.value : "application/json";
    }
    try {
      const reply = await fetch(url + (query.size ? "?" + query : ""), {method, headers, body});
      answer.textContent = reply.status + " " + reply.statusText + "\\n" +
        [...reply.headers].map(each => each.join(": ")).join("\\n") + "\\n\\n" + await reply.text();
    } catch (error) {
      answer.textContent = error;
    }
  };
}

fetch("/v2/docs/openapi.json").then(reply => reply.json()).then(({paths, components}) => {
  for (const [path, methods] of Object.entries(paths))
    for (const [method, operation] of Object.entries(methods))
      call(path, method, operation, components);
});
</script>
</html>
"""
