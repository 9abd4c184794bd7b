select customer_id, sum(amount) as total
from {{ ref('raw_orders') }}
group by customer_id
