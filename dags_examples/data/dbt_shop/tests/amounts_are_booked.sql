-- Each amount is in the ledger. Nobody has loaded a ledger into this database.
select orders.id
from {{ ref('orders') }} as orders
left join ledger on ledger.order_id = orders.id
where ledger.amount is distinct from orders.amount
