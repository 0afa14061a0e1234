"""What the shop allows: pure functions, from what has happened to what may happen next.

A state is folded from the events of a stream.  A decision takes it and returns the data of
one event, or raises Refused.  Nothing here knows of HTTP or of a database.
"""
from dataclasses import dataclass, field
from typing import Optional


class Refused(Exception):
    """A rule says no; the text says which."""


# ---- states ----

@dataclass
class Order:
    status: Optional[str] = None        # None: there is no such order
    customer_id: Optional[str] = None
    quantity: dict = field(default_factory=dict)        # of a product
    price_cents: dict = field(default_factory=dict)     # what the first piece of it cost
    refunded_cents: int = 0

    @property
    def total_cents(self):
        return sum(quantity * self.price_cents[product] for product, quantity in self.quantity.items())

    def apply(self, kind, data):
        if kind == "OrderCreated":
            self.status, self.customer_id = "open", data["customer_id"]
        elif kind == "OrderItemAdded":
            product = data["product_id"]
            self.quantity[product] = self.quantity.get(product, 0) + data["quantity"]
            self.price_cents.setdefault(product, data["price_cents"])
        elif kind == "OrderItemRemoved":
            self.quantity[data["product_id"]] -= data["quantity"]
        elif kind == "OrderShipped":
            self.status = "shipped"
        elif kind == "OrderCompleted":
            self.status = "completed"
        elif kind == "OrderCancelled":
            self.status = "cancelled"
        elif kind == "OrderRefunded":
            self.status = "refunded"
            self.refunded_cents += data["amount_cents"]

    def must_be(self, *allowed):
        if self.status not in allowed:
            raise Refused(f"the order is {self.status}")


@dataclass
class Customer:
    name: Optional[str] = None          # None: there is no such customer
    tier: Optional[str] = None

    def apply(self, kind, data):
        if kind == "CustomerCreated":
            self.name, self.tier = data["name"], data["tier"]
        elif kind == "CustomerTierChanged":
            self.tier = data["to"]


@dataclass
class Product:
    price_cents: Optional[int] = None   # None: there is no such product, or no longer

    def apply(self, kind, data):
        if kind in ("ProductCreated", "ProductPriceChanged"):
            self.price_cents = data["price_cents"]
        elif kind == "ProductDeleted":
            self.price_cents = None


# ---- decisions ----

def create_order(customer, customer_id):
    if customer.name is None:
        raise Refused(f"there is no customer {customer_id}")
    return {"customer_id": customer_id}


def add_item(order, product, product_id, quantity):
    order.must_be("open")
    if product.price_cents is None:
        raise Refused(f"there is no product {product_id}")
    # All pieces of a product cost what the first one did.
    price_cents = order.price_cents.get(product_id, product.price_cents)
    return {"product_id": product_id, "quantity": quantity, "price_cents": price_cents}


def remove_item(order, product_id, quantity):
    order.must_be("open")
    there = order.quantity.get(product_id, 0)
    if quantity is None:
        quantity = there
    if quantity > there or there == 0:
        raise Refused(f"there are {there} pieces of {product_id} in the order")
    return {"product_id": product_id, "quantity": quantity, "price_cents": order.price_cents[product_id]}


def ship(order, carrier, parcel):
    order.must_be("open")
    if not any(order.quantity.values()):
        raise Refused("there is nothing in the order")
    return {"carrier": carrier, "parcel": parcel}


def complete(order):
    order.must_be("shipped")
    return {"customer_id": order.customer_id, "total_cents": order.total_cents}


def cancel(order, reason):
    order.must_be("open", "shipped")
    return {"customer_id": order.customer_id, "reason": reason}


def refund(order, amount_cents, reason):
    order.must_be("completed", "refunded")
    left = order.total_cents - order.refunded_cents
    if amount_cents > left:
        raise Refused(f"only {left} cents are left to refund")
    return {"customer_id": order.customer_id, "amount_cents": amount_cents, "reason": reason}


def change_tier(customer, tier):
    if customer.tier == tier:
        raise Refused(f"the customer is {tier} already")
    return {"from": customer.tier, "to": tier}
