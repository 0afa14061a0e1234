#!/usr/bin/python3
"""A small shop: commands append events, queries read what projections keep.

    app.py [PORT]       serves on 127.0.0.1; 0, the default, is any free port

The database is named by PGHOST, PGDATABASE and so on, and set up by setup.sql.

Commands (POST, DELETE) answer with stream, version and position of what they have stored.
Queries (GET) give JSON, and orders, customers and the front page HTML if a browser asks.

 * expected_version, in a command's body or query, is the version that the client has seen.
   If the stream has another one, the answer is 409 with current_version.  Without it the
   command is decided upon whatever is there.
 * Idempotency-Key, a UUID in a header, makes a command repeatable.
 * X-Correlation-ID names a request, and goes onto its events; one is made if there is none.
 * after=POSITION, at a query: what it shows has seen that position, or says that it may be
   stale.  The Location of a command's answer has it.
"""
import json
import socket
import sys
import uuid
from pathlib import Path
from typing import Literal, Optional

import psycopg
import uvicorn
from fastapi import Body, Depends, FastAPI, Header, Path as InPath, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.templating import Jinja2Templates
from pydantic import VERSION, BaseModel, conint, constr

import rules
import store

BIGGEST = 2**63 - 1
app = FastAPI(title="Shop", description=__doc__, docs_url=None, redoc_url=None)
templates = Jinja2Templates(directory=str(Path(__file__).parent / "templates"))
templates.env.filters["money"] = lambda cents: f"{cents / 100:,.2f}"


# ---- what comes in ----

def matching(regex, **more):
    # pydantic 2 says pattern for what pydantic 1 calls regex.
    return constr(strict=True, **{"pattern" if VERSION >= "2" else "regex": regex}, **more)


# As parameters they have no default of Path() or Query(), for which FastAPI forgets the pattern.
OrderId = matching(r"^Order-[0-9]{1,18}$")
CustomerId = matching(r"^Customer-[0-9]{1,18}$")
ProductId = matching(r"^Product-[0-9]{1,18}$")
Version = conint(strict=True, ge=0, le=BIGGEST)
Quantity = conint(strict=True, ge=1, le=1000)
Cents = conint(strict=True, ge=0, le=10**9)
# Neither control characters nor half ones; said so that each version's regex engine knows it.
Text = matching(r"^[\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]*$", strip_whitespace=True, min_length=1, max_length=200)


class Strict(BaseModel, extra="forbid"):
    pass


class NewCustomer(Strict):
    name: Text
    country: matching(r"^[A-Z]{2}$", strip_whitespace=True)


class NewTier(Strict):
    tier: Literal["bronze", "silver", "gold"]
    expected_version: Optional[Version] = None


class NewProduct(Strict):
    name: Text
    department: Text
    description: Text
    price_cents: Cents


class NewPrice(Strict):
    price_cents: Cents
    expected_version: Optional[Version] = None


class NewOrder(Strict):
    customer_id: CustomerId


class NewItem(Strict):
    product_id: ProductId
    quantity: Quantity = 1
    expected_version: Optional[Version] = None


class Shipment(Strict):
    carrier: Text
    parcel: Text
    expected_version: Optional[Version] = None


class Completion(Strict):
    expected_version: Optional[Version] = None


class Refund(Strict):
    amount_cents: conint(strict=True, ge=1, le=10**12)
    reason: Text
    expected_version: Optional[Version] = None


def expected(expected_version: Optional[int] = Query(None, ge=0, le=BIGGEST)):
    """For DELETE, which has no body."""
    return expected_version


class Context:
    """What a command takes from the headers of its request."""

    def __init__(self, request: Request, idempotency_key: Optional[uuid.UUID] = Header(None)):
        self.metadata = {"correlation_id": request.state.correlation_id}
        self.key = idempotency_key

    def run(self, kind, stream, state, decide, **more):
        return store.run(store.Command(kind, stream, state, decide, self.metadata, key=self.key, **more))


@app.middleware("http")
async def correlate(request: Request, call_next):
    given = request.headers.get("X-Correlation-ID", "")
    request.state.correlation_id = given if given.isprintable() and 0 < len(given) <= 100 else str(uuid.uuid4())
    response = await call_next(request)
    response.headers["X-Correlation-ID"] = request.state.correlation_id
    return response


# ---- what goes out ----

def done(response: Response, appended):
    """The answer of a command."""
    # customers/Customer-7 for the stream Customer-7.  Whoever goes there sees this event.
    folder = appended.stream.split("-")[0].lower() + "s"
    response.headers["Location"] = f"/{folder}/{appended.stream}?after={appended.position}"
    return {"id": appended.stream, "version": appended.version, "position": appended.position}


def page(request: Request, template, content):
    """The answer of a query: HTML for a browser, else JSON."""
    if "text/html" in request.headers.get("Accept", ""):
        return HTMLResponse(templates.get_template(template).render(content), headers={"Vary": "Accept"})
    return content


def failure(status, text, **more):
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"detail": text, **more}, status, headers)


@app.exception_handler(RequestValidationError)
def not_understood(request, error):
    # Without the input: NaN or half a character cannot be sent back.  That may be in a name, too.
    problems = [{key: problem[key] for key in ("loc", "msg", "type")} for problem in error.errors()]
    content = json.dumps({"detail": problems}, ensure_ascii=False).encode(errors="replace")
    return Response(content, 422, media_type="application/json")


@app.exception_handler(store.NotFound)
def not_found(request, error):
    return failure(404, f"there is no {error}")


@app.exception_handler(store.Conflict)
def conflict(request, error):
    return failure(409, str(error), current_version=error.version)


@app.exception_handler(store.KeyReused)
def key_reused(request, error):
    return failure(422, str(error))


@app.exception_handler(psycopg.Error)
def database_error(request, error):
    # What the model of a request has let pass, and the database cannot store.
    if isinstance(error, psycopg.DataError):
        return failure(422, "this cannot be stored")
    if error.sqlstate == "SE006":
        return failure(422, "there is no such position yet")
    # Whether a command was stored is not known then: hence Idempotency-Key.
    if isinstance(error, psycopg.OperationalError) or error.sqlstate in store.AGAIN:
        return failure(503, "try again")
    raise error


# ---- customers ----

@app.post("/customers", status_code=201)
def create_customer(response: Response, body: NewCustomer, context: Context = Depends()):
    return done(response, context.run(
        "CustomerCreated", store.new_stream("Customer"), rules.Customer,
        lambda: {"name": body.name, "country": body.country, "tier": "bronze"}, creates=True))


@app.post("/customers/{customer_id}/tier", status_code=201)
def change_tier(response: Response, body: NewTier, customer_id: CustomerId, context: Context = Depends()):
    return done(response, context.run(
        "CustomerTierChanged", customer_id, rules.Customer,
        lambda customer: rules.change_tier(customer, body.tier), expected_version=body.expected_version))


@app.get("/customers/{customer_id}")
def show_customer(request: Request, customer_id: CustomerId, after: Optional[int] = Query(None, ge=1, le=BIGGEST)):
    fresh = after is None or store.caught_up("customer_activity_async", after)
    sql = "SELECT * FROM shop.customers WHERE customer_id = %s"
    customer = store.rows(sql, customer_id)
    if not customer and store.rows("SELECT es_stream_version(%s) AS version", customer_id)[0]["version"] > 0:
        # So new that the read model does not know it yet.
        store.caught_up("customer_activity_async", None)
        customer = store.rows(sql, customer_id)
        if not customer:
            return failure(503, "the customer's page is not ready yet")
    if not customer:
        raise store.NotFound(customer_id)
    orders = store.rows(
        "SELECT * FROM shop.orders WHERE customer_id = %s ORDER BY created_at DESC, order_id LIMIT 100", customer_id)
    return page(request, "customer.html", {**customer[0], "orders": orders, "may_be_stale": not fresh})


# ---- products ----

@app.post("/products", status_code=201)
def create_product(response: Response, body: NewProduct, context: Context = Depends()):
    return done(response, context.run(
        "ProductCreated", store.new_stream("Product"), rules.Product, lambda: dict(body), creates=True))


def must_exist(product, data):
    if product.price_cents is None:
        raise rules.Refused("the product was deleted")
    return data


@app.post("/products/{product_id}/price", status_code=201)
def change_price(response: Response, body: NewPrice, product_id: ProductId, context: Context = Depends()):
    return done(response, context.run(
        "ProductPriceChanged", product_id, rules.Product,
        lambda product: must_exist(product, {"price_cents": body.price_cents}),
        expected_version=body.expected_version))


@app.delete("/products/{product_id}")
def delete_product(response: Response, product_id: ProductId,
                   expected_version: Optional[int] = Depends(expected), context: Context = Depends()):
    return done(response, context.run(
        "ProductDeleted", product_id, rules.Product,
        lambda product: must_exist(product, {}), expected_version=expected_version))


@app.get("/products/{product_id}")
def show_product(product_id: ProductId):
    product = store.rows(
        "SELECT *, es_stream_version(product_id) AS version FROM shop.products WHERE product_id = %s", product_id)
    if not product:
        raise store.NotFound(product_id)
    return product[0]


@app.get("/products")
def search_products(search: str = Query("", max_length=100)):
    if search:
        return store.rows("SELECT * FROM product_search_inline.search_products(%s, 50)", search)
    return store.rows("SELECT * FROM shop.products ORDER BY name, product_id LIMIT 50")


# ---- orders: commands ----

@app.post("/orders", status_code=201)
def create_order(response: Response, body: NewOrder, context: Context = Depends()):
    return done(response, context.run(
        "OrderCreated", store.new_stream("Order"), rules.Order,
        lambda customer: rules.create_order(customer, body.customer_id),
        creates=True, other=body.customer_id, other_state=rules.Customer))


@app.post("/orders/{order_id}/items", status_code=201)
def add_item(response: Response, body: NewItem, order_id: OrderId, context: Context = Depends()):
    return done(response, context.run(
        "OrderItemAdded", order_id, rules.Order,
        lambda order, product: rules.add_item(order, product, body.product_id, body.quantity),
        other=body.product_id, other_state=rules.Product, expected_version=body.expected_version))


@app.delete("/orders/{order_id}/items/{product_id}")
def remove_item(response: Response, order_id: OrderId, product_id: ProductId,
                quantity: Optional[int] = Query(None, ge=1, le=BIGGEST),
                expected_version: Optional[int] = Depends(expected), context: Context = Depends()):
    return done(response, context.run(
        "OrderItemRemoved", order_id, rules.Order,
        lambda order: rules.remove_item(order, product_id, quantity), expected_version=expected_version))


@app.post("/orders/{order_id}/shipment", status_code=201)
def ship(response: Response, body: Shipment, order_id: OrderId, context: Context = Depends()):
    return done(response, context.run(
        "OrderShipped", order_id, rules.Order,
        lambda order: rules.ship(order, body.carrier, body.parcel), expected_version=body.expected_version))


@app.post("/orders/{order_id}/completion", status_code=201)
def complete(response: Response, order_id: OrderId, body: Completion = Body(Completion()),
             context: Context = Depends()):
    return done(response, context.run(
        "OrderCompleted", order_id, rules.Order, rules.complete, expected_version=body.expected_version))


@app.post("/orders/{order_id}/refunds", status_code=201)
def refund(response: Response, body: Refund, order_id: OrderId, context: Context = Depends()):
    return done(response, context.run(
        "OrderRefunded", order_id, rules.Order,
        lambda order: rules.refund(order, body.amount_cents, body.reason), expected_version=body.expected_version))


@app.delete("/orders/{order_id}")
def cancel(response: Response, order_id: OrderId, reason: Text = "changed mind",
           expected_version: Optional[int] = Depends(expected), context: Context = Depends()):
    return done(response, context.run(
        "OrderCancelled", order_id, rules.Order,
        lambda order: rules.cancel(order, reason), expected_version=expected_version))


# ---- orders: queries ----

# Inline read models need no `after`: who sees the event sees the row.  One statement, so that
# the lines are those of the version.
ORDER = """
SELECT o.*, (
    SELECT coalesce(json_agg(json_build_object(
        'product_id', product_id, 'name', p.name, 'quantity', l.quantity, 'price_cents', l.price_cents)
        ORDER BY product_id), '[]')
    FROM shop.order_line l LEFT JOIN shop.products p USING (product_id)
    WHERE l.order_id = o.order_id AND l.quantity > 0) AS lines
FROM shop.orders o
WHERE o.order_id = %s
"""


@app.get("/orders/{order_id}")
def show_order(request: Request, order_id: OrderId):
    order = store.rows(ORDER, order_id)
    if not order:
        raise store.NotFound(order_id)
    return page(request, "order.html", {**order[0], "history": history(order_id)})


def history(order_id):
    return store.rows(
        "SELECT version, type, data, metadata, created_at FROM es_read_stream(%s)", order_id)


@app.get("/orders")
def list_orders(status: Optional[Literal["open", "shipped", "completed", "cancelled", "refunded"]] = None,
                customer_id: Optional[CustomerId] = None, limit: int = Query(50, ge=1, le=500)):
    return store.rows(
        """SELECT * FROM shop.orders
           WHERE (%s::text IS NULL OR status = %s) AND (%s::text IS NULL OR customer_id = %s)
           ORDER BY created_at DESC, order_id LIMIT %s""", status, status, customer_id, customer_id, limit)


# ---- the rest ----

@app.get("/sales")
def sales(after: Optional[int] = Query(None, ge=1, le=BIGGEST)):
    fresh = after is None or store.caught_up("daily_sales_async", after)
    return {"days": store.rows("SELECT * FROM shop.sales ORDER BY day DESC LIMIT 366"), "may_be_stale": not fresh}


@app.get("/correlations/{correlation_id}")
def correlation(correlation_id: str = InPath(max_length=100)):
    return store.rows(
        "SELECT position, stream, version, type FROM es_read_correlation(%s)", correlation_id)


@app.get("/")
def front_page(request: Request, search: str = Query("", max_length=100)):
    return page(request, "index.html", {
        "orders": store.rows(
            """SELECT * FROM shop.orders WHERE status IN ('open', 'shipped')
               ORDER BY created_at DESC, order_id LIMIT 20"""),
        "products": search_products(search), "search": search})


# ---- serving ----

class Server(uvicorn.Server):
    def handle_exit(self, sig, frame):
        # Ctrl-C reaches us and who has started us, and he signals us again: to be as
        # orderly as with one signal.
        self.should_exit = True

    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}/", flush=True)


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    with store.pool:
        Server(uvicorn.Config(app, log_level="warning")).run([listening])


if __name__ == "__main__":
    main()
