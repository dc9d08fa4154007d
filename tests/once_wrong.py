"""Small specs that the compiler, or the interpreter, once got wrong."""

from textwrap import dedent

_BODIES = {
    "number_of_a_shape_from_a_def": """
        def rows(x) = size(x, 0)
        step:
            n = rows(p)
            p -= 0.1*n*grad""",
    "gradient_of_one_branch": """
        step:
            if lr > 9:
                grad += p
            grad += 0.5*p
            p -= grad""",
    "compared_with_its_multiple": """
        step:
            x = grad*2
            p -= where(x < x*3, 1, 0)""",
    "hook_hands_on_the_parameter": """
        pre_step before:
            grad = p
        step:
            p -= 0.1*grad
            p -= 0.1*grad""",
    "hook_reads_then_writes": """
        pre_step before:
            grad = p
            p *= 0.5
        step: p -= grad""",
    "gradient_of_another_shape": """
        step:
            grad = norm(grad)
            grad = grad*p
            p -= grad + sum(grad)""",
    "state_becomes_a_number": """
        state m = grad
        step:
            x = m
            m = lr*2
            p -= x*m""",
    "nothing_in_a_branch": """
        state m = 0
        step:
            if lr > 0.01: m = m
            else: m = grad
            m += grad
            p -= m""",
    "gradient_after_the_step": """
        step: p -= grad
        post_step after:
            grad *= 2
            p -= 0.1*grad""",
    "state_of_no_one": """
        hyper flag = false
        state m = 0 when flag
        step: p -= grad
        post_step after:
            if flag:
                m += p
                p *= m
            else:
                p *= 0.5""",
    "number_of_no_one": """
        hyper flag = false
        state k: scalar = 1 when flag
        step: p -= grad
        post_step after:
            if flag:
                k *= 0.5
                p *= k""",
    "hook_by_hand_without_a_state": """
        hyper flag = false
        state m = 0 when flag
        step:
            if flag: m += grad
            p -= grad
        on_call by_hand:
            if flag: p *= m
            else: p *= 0.5""",
    "first_without_state": """
        step: p -= (0.1 if first else 0.2)*grad""",
    "first_of_an_optional_state": """
        hyper flag = false
        state m = 0 when flag
        step:
            if flag:
                m += grad
                p -= m
            p -= grad*t if first else grad""",
    "two_types_of_a_def": """
        def f(x) = x*2
        def f_2(x) = x*3
        step: p -= f(grad) + f(norm(grad)) + f_2(grad)""",
    "infinite_start": """
        state m = inf
        state k: scalar = inf
        step:
            m = min(m, grad)
            k = min(k, lr)
            p -= k*m""",
    "let_go_twice": """
        hyper flag = false
        state m = 0.5
        step:
            if flag: m = grad + m
            else: m += 1
            x = p*2
            p -= m*x""",
    "state_of_a_view": """
        require ndim(p) == 2, "matrices"
        state m = transpose(p)
        state g = transpose(grad)
        step:
            p -= 0.1*transpose(m) + grad
            m *= 0.5
            g *= 2
            p -= transpose(g)""",
    "a_flag_turned_around": """
        step:
            if not capturable: p -= grad
            else: p -= grad/as_tensor(t)*t""",
    "a_flag_behind_a_condition": """
        step:
            if ndim(p) > 1 and capturable: p -= grad
            elif differentiable or capturable: p -= grad
            else: p -= 1*grad""",
    "a_shape_that_a_loop_loses": """
        require ndim(p) == 2, "matrices"
        state m = grad @ transpose(grad)
        step:
            x = m
            y = 0.5*m
            repeat 3:
                y = x + 0
                y += m
                x = mean(y, dim=-1, keepdim=true)*transpose(x)
            p -= norm(y)*grad
            m += 1""",
    "loop_without_rounds": """
        def f(a) = a
        step:
            if not first: x = f(p)
            else: x = p
            repeat 0: x = p*2
            p -= grad
            p -= x""",
    "turned_in_its_own_memory": """
        require ndim(p) == 2, "matrices"
        state m = grad @ transpose(grad)
        step:
            m = transpose(m)
            x = m
            m += 1
            p -= 0.1*norm(m - x)*grad
            m = transpose(x)""",
    "square_of_a_view": """
        step:
            x = p
            if ndim(p) > 1: x -= transpose(transpose(x))**2
            p -= 0.1*(grad + x)""",
    "square_of_a_choice": """
        hyper flag = true
        step:
            x = p
            x -= min(p, (x if flag else grad)**2)
            p -= 0.1*(grad + x)""",
    "opposite_of_an_argument": """
        def f(a) = a
        def g(a, b) = a if numel(a) > 4 else b
        step:
            x = 1/(1 - f(p)) - g(p, grad)**2
            p -= 0.1*(2 - g(grad, p)) + 1e-3*x""",
    "count_as_a_tensor": """
        step: p -= grad*as_tensor(t)""",
    "number_as_a_tensor": """
        state k: scalar = 0.5
        step:
            p -= as_tensor(k)*grad + grad
            k += 1""",
    "gradient_that_comes_back": """
        def f(a) = a
        step:
            grad = f(grad)
            x = grad - p
            p -= 0.1*x""",
    "number_that_is_not_there": """
        hyper flag = false
        state k: scalar = 1 when flag
        step:
            if flag:
                k *= 0.5
                p -= k*grad
            else: p -= grad""",
    "parameter_of_one_value": """
        state m = 0
        step:
            p = norm(grad)
            p -= norm(p)*grad
            m = sum(p)
            p -= norm(m)""",
    "complex_state_of_one_value": """
        state m = 0
        step:
            m = norm(p)
            p -= 0.1*m""",
    "def_of_one_side": """
        def f(x, y) = x*y
        step:
            if capturable: p -= f(grad, as_tensor(t))
            else: p -= grad*t""",
    "number_of_a_local_with_a_number": """
        step:
            u = 2*grad
            p -= 0.1*item(norm(u))*u""",
    "def_that_autograd_follows": """
        def f(x) = 2*exp(x)
        step: p -= 0.1*f(grad)""",
    "def_of_a_count": """
        def f(x) = sqrt(x) + max(x, 2)
        step: p -= f(t)*grad""",
    "draws_of_states_and_sides": """
        hyper flag = false
        state m = randn_like(grad)
        state n = rand_like(p) when flag
        step:
            x = randn_like(p) if lr > 0.08 else rand_like(grad)
            if flag:
                n += x
                p -= 0.1*n
            m = lerp(m, x, initial(lr))
            p -= lr*m*rand_like(norm(p)) + grad""",
    "draws_and_a_local_of_that_name": """
        state step_seeds = 0
        step:
            seeds = lerp(randn_like(grad), 0.5, 0.1)
            step_seeds += seeds
            p -= grad*step_seeds""",
    "loss_of_a_def_and_of_an_alias": """
        def f(x, y) = x*y
        state m = 0
        step:
            x = loss
            x *= 2
            m = max(m, loss)
            p -= 0.1*f(grad, x) - item(loss)*m""",
    "largest_of_a_local_that_changes": """
        hyper rounds: int = 2
        step:
            x = grad*2
            kept = topk(abs(x), rounds)
            x -= p
            p -= where(kept or topk(p, numel(p)//2), x, 0)""",
    "first_and_a_value_that_waits_for_the_model": """
        state m = 0
        step:
            scale = 2 if first else 1
            m = lerp(m, grad, 0.5)
            update = scale*m
            total = norm(update, over=model)
            p -= lr*update/(1 + total)""",
    "first_without_a_state_of_its_own": """
        state total: model = 1
        step:
            if first: grad *= 2
            total = max(total, norm(grad, over=model))
            p -= lr*grad/total""",
    "kept_on_one_side_alone": """
        hyper flag = false
        state scale: group = 1
        step:
            scale = max(scale, norm(grad, over=group))
            x = grad
            if flag: x = 2*grad
            y = norm(x, over=group)
            p -= lr*x/(scale + y)""",
    "numbers_taken_apart_before_a_barrier": """
        step:
            axes, count = (ndim(p), numel(p))
            total = norm(grad, over=model)
            p -= lr*axes/count*grad/total""",
    "number_of_all_taken_apart": """
        step:
            count, half = (sum(numel(p), over=model), 0.5)
            p -= lr*half/count*grad""",
    "tensors_taken_apart_before_a_barrier": """
        require ndim(p) == 2, "matrices"
        step:
            q, r = qr(p)
            total = norm(r, over=model)
            p -= lr*(q @ r)/(1 + total)""",
    "reduction_under_a_condition": """
        hyper eps = 0.5
        step:
            if lr > 0.05:
                if sum(numel(p), over=model) > 10: p -= lr*grad
                else: p -= 2*lr*grad
            else: p -= eps*grad""",
    "hook_by_hand_over_the_model": """
        state h = 0
        step:
            h = 0.5*h + grad
            p -= lr*h
        on_call shrink:
            size = norm(h, over=model)
            h = h/(1 + size)""",
    "names_of_kernels": """
        hyper max_ = 0.5
        state exp_ = 0
        state has_exp_ = 0 when max_ > 0
        step:
            p_t = exp(-abs(grad))
            exp__t = max(p_t, grad)
            exp_ = 0.5*exp_ + exp__t
            if max_ > 0: has_exp_ = max(has_exp_, exp_)
            quotient = sqrt(abs(exp_) + 1)/(1 + max_)**0.5
            p -= lr*quotient*p_t""",
    "def_named_as_numbers_are": """
        def power(x):
            if t_of(x) > 1: return x*x
            return x
        def t_of(x) = max(x, 0.5)
        step:
            a = power(lr)
            p -= grad*0.5**a
            b = power(2*lr)
            p -= grad*0.25**b*0.5**a""",
    "a_text_by_another_name": """
        hyper mode: "a" | "b" = "a"
        hyper flag = true
        step:
            chosen = mode if flag else "b"
            if chosen == "a": p -= lr*grad
            else: p -= 2*lr*grad""",
    "number_over_a_tensor_of_all": """
        state total: model = 1
        step:
            total += norm(grad, over=model)
            p -= lr*tanh(total)/(1 + abs(grad))""",
    "names_that_python_keeps": """
        state a = 0
        state i = grad
        step:
            a += grad
            p -= a + i""",
}  # fmt: skip


def _spec(body: str) -> str:
    hyper = "hyper lr = 0.1" if "lr" in body else ""
    return f"optimizer Once\n{hyper}\n{dedent(body)}\n"


ONCE_WRONG = {name: _spec(body) for name, body in _BODIES.items()}
